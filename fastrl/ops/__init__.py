"""Compiled ops; each comes with its reference in plain torch, `<op>_reference`.

Importing this loads the native library, once. It needs torch alone.
"""

from fastrl.ops._batched_index_select import batched_index_select, batched_index_select_reference
from fastrl.ops._dae_targets import dae_targets, dae_targets_reference
from fastrl.ops._elu import elu, elu_reference
from fastrl.ops._gae import gae, gae_reference
from fastrl.ops._gather_sequences import gather_sequences, gather_sequences_reference
from fastrl.ops._layer_norm_tanh import layer_norm_tanh, layer_norm_tanh_reference
from fastrl.ops._memory_attention import memory_attention, memory_attention_reference
from fastrl.ops._memory_window_gather import memory_window_gather, memory_window_gather_reference
from fastrl.ops._retrace import retrace, retrace_reference
from fastrl.ops._tanh import tanh, tanh_reference
from fastrl.ops._vtrace import vtrace, vtrace_reference

__all__ = [
    "batched_index_select",
    "batched_index_select_reference",
    "dae_targets",
    "dae_targets_reference",
    "elu",
    "elu_reference",
    "gae",
    "gae_reference",
    "gather_sequences",
    "gather_sequences_reference",
    "layer_norm_tanh",
    "layer_norm_tanh_reference",
    "memory_attention",
    "memory_attention_reference",
    "memory_window_gather",
    "memory_window_gather_reference",
    "retrace",
    "retrace_reference",
    "tanh",
    "tanh_reference",
    "vtrace",
    "vtrace_reference",
]
