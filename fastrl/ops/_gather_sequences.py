"""Windows of consecutive steps out of a replay storage, all fields at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from fastrl.autograd import transformed
from fastrl.native import load_ops
from fastrl.ops import _checks

load_ops()
_gather_sequences = torch.ops.fastrl.gather_sequences.default
_gather_sequences_out = torch.ops.fastrl.gather_sequences.out
_NAME = "gather_sequences"


def gather_sequences(
    fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int, *, out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Copies `seq_len` consecutive positions of sampled streams out of a ring, for every field at once.

    out_f[k, b] = field_f[(start_b + k) mod C, env_b]

    Args:
        fields: tensors [C, N, ...] that agree in C (ring positions), N (streams) and device; any dtypes, any
            strides. Memory is read best
            where the fields of a position, or consecutive positions of a stream, lie side by side: see
            `fastrl.data.sequence_storage`.
        start: [B] int64 in [0, C), the first position of every window.
        env: [B] int64 in [0, N), the stream of every window.
        seq_len: steps of a window, in [1, C].
        out: contiguous tensors [seq_len, B, ...], one a field and of its dtype, to write into instead of new
            ones; they share no memory with each other or the fields. Large new tensors cost page faults,
            which can take longer than the copy.

    Returns: a list of tensors [seq_len, B, ...], contiguous, in the order of fields; `out` if given.
    Raises: TypeError, ValueError, IndexError, naming the argument; nothing has been written then. On CUDA the
        values of `start` and `env` are checked only with FASTRL_DEBUG=1 in the environment, for reading them
        waits for the GPU.
    Gradient: none, the results are constants to autograd.
    Edges: B = 0 gives empty results. A window that passes position C − 1 goes on at 0. Runs on the current
        CUDA stream, 16 fields a launch.
    """
    if torch.compiler.is_compiling():  # a traced program meets its checks while it is traced
        _check(fields, start, env, seq_len, out)
        return _call([field.detach() for field in fields], start, env, seq_len, out)
    try:
        if type(seq_len) is not int:  # the dispatcher would take tensors and flags for numbers
            _check_seq_len_type(seq_len)
        if transformed():
            _checks.refuse_tangents(_NAME, *fields)
        if _checks.debugging() or (out is not None and any([tensor.requires_grad for tensor in out])):
            _check(fields, start, env, seq_len, out)
        for field in fields:
            if field.requires_grad:
                fields = [field.detach() for field in fields]
                break
        return _call(fields, start, env, seq_len, out)
    except (RuntimeError, AttributeError, TypeError):  # fields that are no list cannot be gone through
        # the native code has refused: only now is time spent on finding out what to say
        _check(fields, start, env, seq_len, out)
        raise


def gather_sequences_reference(
    fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int, *, out: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """What `gather_sequences` does, in plain torch: the oracle of the tests."""
    positions = (start + torch.arange(seq_len, device=start.device)[:, None]) % fields[0].shape[
        0
    ]  # [seq_len, B]
    results = [field.detach()[positions, env] for field in fields]
    if out is None:
        return results
    return [given.copy_(result) for given, result in zip(out, results, strict=True)]


def _call(
    fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int, out: Sequence[Tensor] | None
) -> list[Tensor]:
    if out is None:
        return _gather_sequences(fields, start, env, seq_len)
    _gather_sequences_out(fields, start, env, seq_len, out=out)
    if not torch.compiler.is_compiling():
        increment_version(out)  # what autograd has saved of them is no longer there
    return list(out)


def _check_seq_len_type(seq_len: object) -> None:
    if isinstance(seq_len, bool) or not isinstance(seq_len, (int, torch.SymInt)):
        raise TypeError(f"{_NAME}: seq_len must be an int, got {type(seq_len).__name__}")


def _check(
    fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int, out: Sequence[Tensor] | None
) -> None:
    named = _check_list("fields", fields)
    if not named:
        raise ValueError(f"{_NAME}: fields must hold at least one tensor, got none")
    _checks.check_tensors(_NAME, {**named, "start": start, "env": env})
    for name, field in named.items():
        if field.dim() < 2:
            raise ValueError(f"{_NAME}: {name} must have shape [C, N, ...], got {list(field.shape)}")
        if field.shape[0] != fields[0].shape[0] or field.shape[1] != fields[0].shape[1]:
            wanted = f"[C, N, ...] = [{fields[0].shape[0]}, {fields[0].shape[1]}, ...]"
            raise ValueError(f"{_NAME}: {name} must have shape {wanted}, got {list(field.shape)}")
    _checks.check_shape(_NAME, "start", start, "[B]", None)
    _checks.check_shape(_NAME, "env", env, "[B]", start.shape[0])
    _checks.check_indices(_NAME, "start", start, fields[0].shape[0], "C")
    _checks.check_indices(_NAME, "env", env, fields[0].shape[1], "N")
    _check_seq_len_type(seq_len)
    if not 1 <= seq_len <= fields[0].shape[0]:
        raise ValueError(f"{_NAME}: seq_len must be in [1, C] = [1, {fields[0].shape[0]}], got {seq_len}")
    if out is not None:
        _check_out(named, start, seq_len, out)


def _check_list(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """The tensors of a list by the name that messages give them. Raises TypeError."""
    if not isinstance(tensors, (list, tuple)):
        raise TypeError(f"{_NAME}: {name} must be a list of tensors, got {type(tensors).__name__}")
    return {f"{name}[{i}]": tensor for i, tensor in enumerate(tensors)}


def _check_out(fields: dict[str, Tensor], start: Tensor, seq_len: int, out: Sequence[Tensor]) -> None:
    named = _check_list("out", out)
    if len(named) != len(fields):
        raise ValueError(f"{_NAME}: out must hold {len(fields)} tensors, one a field, got {len(named)}")
    _checks.check_tensors(_NAME, {"fields[0]": fields["fields[0]"], **named})
    taken = dict(fields)
    for (name, tensor), (field_name, field) in zip(named.items(), fields.items(), strict=True):
        shape = [seq_len, start.shape[0], *field.shape[2:]]
        if tensor.dtype != field.dtype:
            raise TypeError(
                f"{_NAME}: {name} must have the dtype of {field_name}, {field.dtype}, got {tensor.dtype}"
            )
        if list(tensor.shape) != shape:
            raise ValueError(
                f"{_NAME}: {name} must have shape [seq_len, B, ...] = {shape}, got {list(tensor.shape)}"
            )
        if not tensor.is_contiguous():
            raise ValueError(f"{_NAME}: {name} must be contiguous, got strides {list(tensor.stride())}")
        _checks.check_materialized(_NAME, name, tensor)
        if tensor.requires_grad:
            raise ValueError(
                f"{_NAME}: {name} must not require a gradient: what is written is constant to autograd"
            )
        for other_name, other in taken.items():
            if tensor.numel() and other.numel() and _checks.share_memory(tensor, other):
                raise ValueError(f"{_NAME}: {name} must not share memory with {other_name}")
        taken[name] = tensor


@torch.library.register_fake("fastrl::gather_sequences")
def _fake(fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int) -> list[Tensor]:
    _check(fields, start, env, seq_len, None)
    return [field.new_empty((seq_len, start.shape[0], *field.shape[2:])) for field in fields]


@torch.library.register_fake("fastrl::gather_sequences.out")
def _out_fake(
    fields: Sequence[Tensor], start: Tensor, env: Tensor, seq_len: int, *, out: Sequence[Tensor]
) -> None:
    _check(fields, start, env, seq_len, out)
