"""Compiled ops; each comes with its reference in plain torch, `<op>_reference`.

Importing this loads the native library, once. It needs torch alone.
"""

from fastrl.ops._dae_targets import dae_targets, dae_targets_reference
from fastrl.ops._gae import gae, gae_reference
from fastrl.ops._retrace import retrace, retrace_reference
from fastrl.ops._tanh import tanh, tanh_reference
from fastrl.ops._vtrace import vtrace, vtrace_reference

__all__ = [
    "dae_targets",
    "dae_targets_reference",
    "gae",
    "gae_reference",
    "retrace",
    "retrace_reference",
    "tanh",
    "tanh_reference",
    "vtrace",
    "vtrace_reference",
]
