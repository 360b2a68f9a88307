"""Errors that a user can cause and mend.

Everything that imports anything else of fastrl may import this module.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SettingError(ValueError):
    """A setting cannot be used; one sentence names it.

    The command line prints it and exits with code 2.
    """


class CheckpointError(RuntimeError):
    """A checkpoint is missing, incomplete, damaged or not of this kind of run; the message names the file."""


class RunFolderError(RuntimeError):
    """A file of a run cannot be read or written; the message names it.

    A full disk, no permission, a link, another process at work.
    """


class NonFiniteError(ArithmeticError):
    """A number that must be finite is not; parameters are untouched.

    The message names the loss term or the environment, and the update.
    """


def nearest(given: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'CartPole-v1'?`, or nothing if no known name is close."""
    names = list(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if not close:  # upper and lower case are the commonest slip and count as far apart above
        close = [name for name in names if name.lower() == given.lower()][:1]
    return f"; did you mean {close[0]!r}?" if close else ""
