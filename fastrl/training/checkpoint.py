"""Checkpoints that survive a kill at any moment and run no code when loaded.

    <root>/LATEST                          name of the newest checkpoint
    <root>/step-000000500000-0007/         env_steps, and the number of the save
        tensors.safetensors                every tensor and array
        state.json                         everything else (see `state_codec`)
        manifest.json                      size and sha256 of both files, written last

A save writes and syncs a directory with a temporary name, renames it to a name that was never used, syncs the parent, and only then
replaces LATEST. Whatever LATEST names is therefore complete. One process at a time saves into a root.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from fastrl.errors import CheckpointError
from fastrl.training.state_codec import StateCodecError, decode_state, encode_state

TENSORS, STATE, MANIFEST, LATEST = "tensors.safetensors", "state.json", "manifest.json", "LATEST"
FORMAT = "fastrl-checkpoint-1"
NAME = re.compile(r"step-(\d{12,})-(\d{4,})")
TEMPORARY = re.compile(r"(step-\d+-\d+|LATEST)\.(tmp|old)")


def save_checkpoint(root: Path, state: Mapping[str, Any], *, step: int, keep: int = 3) -> Path:
    """Write a checkpoint below `root`, point LATEST at it, then remove the oldest ones.

    Args:
        root: directory of a run's checkpoints; made if missing.
        state: nested dict, list and tuple of tensors, numpy arrays, int, float, bool, str and None.
        step: environment steps so far; part of the name.
        keep: checkpoints that stay, ≥ 1, this one included.

    Returns:
        The checkpoint's own directory.

    Raises:
        TypeError: `state` holds something that cannot be saved; nothing was written.
        CheckpointError: it could not be written (a full disk, no permission); earlier checkpoints and LATEST are as before.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"save_checkpoint: step must be at least 0 and keep at least 1, got step={step}, keep={keep}")
    root = Path(root)
    data, tensors = encode_state(dict(state))
    temporary = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(root)
        final = root / f"step-{step:012d}-{_next_number(root):04d}"
        temporary = root / f"{final.name}.tmp"
        temporary.mkdir()
        safetensors.torch.save_file(tensors, temporary / TENSORS)
        (temporary / STATE).write_bytes(_to_json(data))
        _sync_file(temporary / TENSORS)
        _sync_file(temporary / STATE)
        (temporary / MANIFEST).write_bytes(_manifest(temporary, step))
        _sync_file(temporary / MANIFEST)
        _sync_directory(temporary)
        temporary.rename(final)
        _sync_directory(root)
        _point_latest_at(root, final.name)
    except (OSError, safetensors.SafetensorError) as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        kept = _read_latest(root)
        still = f"the earlier checkpoint {kept} is untouched" if kept else "there is no earlier checkpoint"
        raise CheckpointError(f"the checkpoint at step {step} could not be written to {root}: {error}; {still}") from error
    _prune(root, keep, final.name)
    return final


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint back; no code from its files is run.

    Args:
        path: a directory of checkpoints, of which LATEST's is read, or the newest good one with a warning that names the bad file; or one
            checkpoint's own directory, which is read or refused.

    Returns:
        The state that was saved: tensors on the CPU, arrays as numpy arrays.

    Raises:
        CheckpointError: nothing there can be loaded; the message names the file.
    """
    path = Path(path)
    if NAME.fullmatch(path.name) or (path / MANIFEST).exists():
        return _read(path)
    candidates = [folder.name for folder in _checkpoints(path)][::-1]
    if not candidates:
        raise CheckpointError(f"there is no checkpoint in {path}")
    latest = _read_latest(path)
    if latest is None:
        warnings.warn(f"{path / LATEST} is missing or damaged; taking the newest good checkpoint", stacklevel=2)
    else:
        candidates = [latest, *(name for name in candidates if name != latest)]
    failures = []
    for name in candidates:
        try:
            state = _read(path / name)
        except CheckpointError as error:
            failures.append(str(error))
            continue
        if failures:
            warnings.warn(f"{'; '.join(failures)}; continuing from the earlier checkpoint {path / name}", stacklevel=2)
        return state
    raise CheckpointError(f"no checkpoint in {path} can be loaded: {'; '.join(failures)}")


# -------------------------------------------------------------------------------------------------------------------- reading


def _read(folder: Path) -> dict[str, Any]:
    """The state in one checkpoint's directory; CheckpointError naming the file that is missing, damaged or not a checkpoint's."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}")
    expected = _read_manifest(folder / MANIFEST)
    for name in (STATE, TENSORS):
        file = folder / name
        try:
            found = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read ({error.strerror})") from None
        if found != expected[name]:
            raise CheckpointError(f"{file} is damaged: its content is not what the manifest says")
    try:
        data = json.loads((folder / STATE).read_bytes())
        state = decode_state(data, safetensors.torch.load_file(folder / TENSORS))
    except (OSError, ValueError, KeyError, RuntimeError, RecursionError, StateCodecError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{folder} is no checkpoint of fastrl: {error}") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder / STATE} holds a {type(state).__name__} instead of a state")
    return state


def _read_manifest(file: Path) -> dict[str, Any]:
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror})") from None
    try:
        manifest = json.loads(raw)
        files = manifest["content"]["files"]
        # the digest guards the values, the comparison of bytes everything between them
        intact = _seal(manifest["content"]) == raw and manifest["content"]["format"] == FORMAT and set(files) == {STATE, TENSORS}
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise CheckpointError(f"{file} is damaged or not the manifest of a checkpoint")
    return dict(files)


# -------------------------------------------------------------------------------------------------------------------- writing


def _manifest(folder: Path, step: int) -> bytes:
    files = {name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)} for name in (STATE, TENSORS)}
    return _seal({"files": files, "format": FORMAT, "step": step})


def _seal(content: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: its content, and a digest of that."""
    digest = hashlib.sha256(_to_json(content)).hexdigest()
    return json.dumps({"content": content, "sha256": digest}, sort_keys=True, indent=1).encode()


def _to_json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def _point_latest_at(root: Path, name: str) -> None:
    temporary = root / f"{LATEST}.tmp"
    temporary.write_text(_latest_line(name))
    _sync_file(temporary)
    temporary.replace(root / LATEST)
    _sync_directory(root)


def _prune(root: Path, keep: int, newest: str) -> None:
    """Remove all but the newest `keep` checkpoints. Failing to is no reason to stop a run: the next save tries again."""
    for folder in _checkpoints(root)[:-keep]:
        if folder.name == newest:
            continue
        try:
            # first out of the way under a name that is no checkpoint's, so that a half-removed one is never taken for a damaged one
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.old")))
        except OSError as error:
            warnings.warn(f"the old checkpoint {folder} could not be removed: {error}", stacklevel=3)


def _remove_leftovers(root: Path) -> None:
    """What a killed save or removal left behind."""
    for entry in root.iterdir():
        if TEMPORARY.fullmatch(entry.name):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


# -------------------------------------------------------------------------------------------------------------------- directories


def _checkpoints(root: Path) -> list[Path]:
    """Checkpoint directories in the order in which they were saved."""
    if not root.is_dir():
        return []
    found = [(int(match[2]), entry) for entry in root.iterdir() if (match := NAME.fullmatch(entry.name)) and entry.is_dir()]
    return [entry for _, entry in sorted(found)]


def _next_number(root: Path) -> int:
    """One more than any save's so far; what LATEST names counts too, should its directory be gone."""
    names = [folder.name for folder in _checkpoints(root)] + [_read_latest(root) or ""]
    return 1 + max((int(match[2]) for name in names if (match := NAME.fullmatch(name))), default=0)


def _read_latest(root: Path) -> str | None:
    """The name in LATEST, or None when the file is missing, damaged or holds no checkpoint's name (never a path to elsewhere)."""
    try:
        line = (root / LATEST).read_text(errors="replace")
    except OSError:
        return None
    name = line.partition(" ")[0]
    return name if NAME.fullmatch(name) and line == _latest_line(name) else None


def _latest_line(name: str) -> str:
    """What LATEST holds: the name, and a digest of it, since one changed digit would name another checkpoint."""
    return f"{name} {hashlib.sha256(name.encode()).hexdigest()[:16]}\n"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync_file(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
