"""Nested state as JSON plus a flat dict of tensors, and back.

Plain data only: decoding builds values and never runs anything.

JSON holds strings, booleans, None, ordinary integers and finite floats as they are. Everything else is an
object with one key that names
its kind: {"dict": [[key, value], ...]}, {"list": [...]}, {"tuple": [...]}, {"int": "0x..."}, {"float":
"nan"}, and {"tensor": name} or {"array": name} for what lies in the tensor file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_DEPTH = 100
JSON_INT = (
    2**63
)  # beyond this other JSON readers lose digits, so larger integers are written as hexadecimal text
SPECIAL_FLOATS = ("nan", "inf", "-inf")
ARRAY_KINDS = "biuf"  # numpy's bool, signed, unsigned and floating types


class StateCodecError(ValueError):
    """Encoded state is not what `encode_state` writes."""


def encode_state(state: Any) -> tuple[Any, dict[str, Tensor]]:
    """`state` as JSON-ready data and the tensors that it names.

    Args:
        state: nested dict, list and tuple of tensors, numpy arrays, int, float, bool, str and None.
            Subclasses count as their base (a parameter comes back as a tensor, an OrderedDict as a dict), a
            numpy scalar as a Python number.

    Returns:
        (data, tensors); tensors lie on the CPU, contiguous, each with memory of its own.

    Raises:
        TypeError: something else is in there; the message says where.
    """
    tensors: dict[str, Tensor] = {}
    return _encode(state, "state", 0, tensors), tensors


def _encode(value: Any, where: str, depth: int, tensors: dict[str, Tensor]) -> Any:
    if depth > MAX_DEPTH:
        raise TypeError(f"checkpoint: {where[:80]}... is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Tensor):
        return _store("tensor", value, where, tensors)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in ARRAY_KINDS or value.dtype.itemsize > 8:
            allowed = "only bool, integers and floats up to 64 bits can be saved"
            raise TypeError(f"checkpoint: {where} is a numpy array of {value.dtype}; {allowed}")
        native = value.astype(value.dtype.newbyteorder("="), order="C", copy=True)
        return _store("array", torch.from_numpy(native.reshape(value.shape)), where, tensors)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | int | float):
        return _encode_scalar(value)
    if isinstance(value, Mapping):
        pairs = []
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(
                    f"checkpoint: {where} has the key {key!r} of type {type(key).__name__}; keys must be "
                    "str or int"
                )
            pairs.append([_encode_scalar(key), _encode(item, f"{where}[{key!r}]", depth + 1, tensors)])
        return {"dict": pairs}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {
            kind: [_encode(item, f"{where}[{index}]", depth + 1, tensors) for index, item in enumerate(value)]
        }
    raise TypeError(f"checkpoint: {where} is a {type(value).__name__}, which cannot be saved")


def _encode_scalar(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value) if -JSON_INT < value < JSON_INT else {"int": hex(value)}
    return float(value) if math.isfinite(value) else {"float": repr(float(value))}


def _store(kind: str, tensor: Tensor, where: str, tensors: dict[str, Tensor]) -> dict[str, str]:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise TypeError(
            f"checkpoint: {where} is a {tensor.layout} tensor on {tensor.device}; only dense tensors with "
            "data can be saved"
        )
    plain = tensor.detach().resolve_conj().resolve_neg().cpu()
    if plain.is_complex():
        return {"complex_tensor": _store(kind, torch.view_as_real(plain), where, tensors)[kind]}
    name = str(len(tensors))
    # memory of its own: tensors that share storage would otherwise be written whole, or refused
    tensors[name] = plain.clone(memory_format=torch.contiguous_format)
    return {kind: name}


def decode_state(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Counterpart of `encode_state`.

    Raises:
        StateCodecError: `data` is not what `encode_state` writes, or a tensor is missing or stands for two
            values.
    """
    return _decode(data, 0, dict(tensors))


def _decode(data: Any, depth: int, tensors: dict[str, Tensor]) -> Any:
    if depth > MAX_DEPTH:
        raise StateCodecError(f"nested deeper than {MAX_DEPTH} levels")
    if data is None or isinstance(data, bool | str | int | float):
        return data
    if not isinstance(data, dict) or len(data) != 1:
        raise StateCodecError(f"a {type(data).__name__} stands where a value should")
    [(kind, content)] = data.items()
    if kind in ("list", "tuple") and isinstance(content, list):
        items = [_decode(item, depth + 1, tensors) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "dict" and isinstance(content, list):
        return _decode_dict(content, depth, tensors)
    if isinstance(content, str):
        return _decode_leaf(kind, content, tensors)
    raise StateCodecError(f"a value is of the unknown kind {kind!r}")


def _decode_dict(pairs: list[Any], depth: int, tensors: dict[str, Tensor]) -> dict[Any, Any]:
    result = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise StateCodecError("an entry of a dict is no pair")
        key = _decode(pair[0], depth + 1, tensors)
        if not isinstance(key, str | int) or key in result:
            raise StateCodecError(f"a dict has a second or unusable key {key!r}")
        result[key] = _decode(pair[1], depth + 1, tensors)
    return result


def _decode_leaf(kind: str, content: str, tensors: dict[str, Tensor]) -> Any:
    """A value that is no container; its tensor is taken out of `tensors`, so that no two values share
    memory."""
    if kind == "float" and content in SPECIAL_FLOATS:
        return float(content)
    if kind == "int":
        try:
            return int(content, 16)
        except ValueError:
            raise StateCodecError(f"{content[:40]!r} is no hexadecimal integer") from None
    if kind not in ("tensor", "array", "complex_tensor"):
        raise StateCodecError(f"a value is of the unknown kind {kind!r}")
    if content not in tensors:
        raise StateCodecError(f"tensor {content[:40]!r} is missing, or named twice")
    tensor = tensors.pop(content)
    if kind == "complex_tensor":
        return torch.view_as_complex(tensor)
    return tensor if kind == "tensor" else tensor.numpy()
