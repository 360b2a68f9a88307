"""The MPO learner for loops of one's own, under its earlier path; see `fastrl.trainers.mpo.compat`."""

from fastrl.trainers.mpo.compat import MPOAgent

__all__ = ["MPOAgent"]
