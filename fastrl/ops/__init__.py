"""Compiled ops; each comes with its reference in plain torch, `<op>_reference`.

Importing this loads the native library, once. It needs torch alone.
"""

from fastrl.ops._gae import gae, gae_reference
from fastrl.ops._tanh import tanh, tanh_reference

__all__ = ["gae", "gae_reference", "tanh", "tanh_reference"]
