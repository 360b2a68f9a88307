"""The documented names of V-MPO's agent and policies."""

from fastrl.nn.layers import layer_init
from fastrl.trainers.vmpo.compat import VMPOAgent
from fastrl.trainers.vmpo.networks import CategoricalPolicy, DiagonalGaussianPolicy

__all__ = ["CategoricalPolicy", "DiagonalGaussianPolicy", "VMPOAgent", "layer_init"]
