"""Checkpoints that survive a kill at any moment and run no code when loaded.

    <root>/LATEST                          name of the newest checkpoint
    <root>/step-000000500000-0007/         env_steps, and the number of the save
        tensors.safetensors                every tensor and array
        state.json                         everything else (see `state_codec`)
        manifest.json                      size and sha256 of both files, written last

A save writes and syncs a directory with a temporary name, renames it to a name that was never used, syncs the
parent, and only then replaces LATEST. Whatever LATEST names is therefore complete. One process at a time
saves into a root.

What is loaded is read into memory first, and then its digest is checked: nothing of it depends on the files
any more.
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
from safetensors.torch import load as tensors_of_bytes

from fastrl.errors import CheckpointError, RunFolderError
from fastrl.runs.memory import available_memory
from fastrl.runs.safe_files import (
    KILOBYTE,
    MEGABYTE,
    read_file,
    remove_leftovers,
    replace_file,
    require_folder,
)
from fastrl.runs.state_codec import decode_state, encode_state

TENSORS, STATE, MANIFEST, LATEST = "tensors.safetensors", "state.json", "manifest.json", "LATEST"
FORMAT = "fastrl-checkpoint-1"
NAME = re.compile(r"step-(\d{12,})-(\d{4,})")
TEMPORARY = re.compile(r"(step-\d+-\d+|LATEST)\.(tmp|old)")
LARGEST_STATE = 256 * MEGABYTE  # of state.json; a run's has some kilobytes


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
        CheckpointError: it could not be written (a full disk, no permission); earlier checkpoints and LATEST
            are as before.
    """
    if step < 0 or keep < 1:
        raise ValueError(
            f"save_checkpoint: step must be at least 0 and keep at least 1, got step={step}, keep={keep}"
        )
    root = Path(root)
    data, tensors = encode_state(dict(state))
    temporary = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(root)
        final = root / f"step-{step:012d}-{_next_number(root):04d}"
        temporary = root / f"{final.name}.tmp"
        temporary.mkdir()
        (temporary / STATE).write_bytes(_to_json(data))
        safetensors.torch.save_file(tensors, temporary / TENSORS)
        shutil.copymode(
            temporary / STATE, temporary / TENSORS
        )  # the library's own is for the user alone, whatever the umask says
        _sync_file(temporary / TENSORS)
        _sync_file(temporary / STATE)
        (temporary / MANIFEST).write_bytes(_manifest(temporary, step))
        _sync_file(temporary / MANIFEST)
        _sync_directory(temporary)
        temporary.rename(final)
        _sync_directory(root)
        _point_latest_at(root, final.name)
    except (OSError, RunFolderError, safetensors.SafetensorError) as error:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        kept = _read_latest(root)
        still = f"the earlier checkpoint {kept} is untouched" if kept else "there is no earlier checkpoint"
        raise CheckpointError(
            f"the checkpoint at step {step} could not be written to {root}: {error}; {still}"
        ) from error
    _prune(root, keep, final.name)
    return final


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint back; no code from its files is run.

    Args:
        path: a directory of checkpoints, of which LATEST's is read, or the newest good one with a warning
            that names the bad file; or one checkpoint's own directory, which is read or refused.

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
        warnings.warn(
            f"{path / LATEST} is missing or damaged; taking the newest good checkpoint", stacklevel=2
        )
    else:
        candidates = [latest, *(name for name in candidates if name != latest)]
    failures = []
    for name in candidates:
        try:
            if (path / name).is_symlink():
                require_folder(path / name)
            state = _read(path / name)
        except (CheckpointError, RunFolderError) as error:
            failures.append(str(error))
            continue
        if failures:
            warnings.warn(
                f"{'; '.join(failures)}; continuing from the earlier checkpoint {path / name}", stacklevel=2
            )
        return state
    raise CheckpointError(f"no checkpoint in {path} can be loaded: {'; '.join(failures)}")


def holds_checkpoint(root: Path) -> bool:
    """Whether there is a checkpoint below `root`, good or damaged."""
    return root.is_dir() and any(NAME.fullmatch(entry.name) for entry in root.iterdir())


def holds_steps(root: Path) -> bool:
    """Whether there is more below `root` than the checkpoint at step 0 that begins every run."""
    if not root.is_dir():
        return os.path.lexists(root)
    matches = [
        NAME.fullmatch(entry.name)
        for entry in root.iterdir()
        if entry.name != LATEST and not TEMPORARY.fullmatch(entry.name)
    ]
    return any(match is None or int(match[1]) > 0 for match in matches)


def name_of_newest(root: Path) -> str | None:
    """Name of the checkpoint that LATEST names; None if it names none."""
    return _read_latest(root)


# ------------------------------------------------------------------------------------------- reading


def _read(folder: Path) -> dict[str, Any]:
    """The state in one checkpoint's directory; CheckpointError naming the file that is missing, damaged or
    not a checkpoint's."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}")
    expected = _read_manifest(folder / MANIFEST)
    try:
        data = json.loads(_read_verified(folder / STATE, expected[STATE], max_bytes=LARGEST_STATE))
        # an argument, so that the file's bytes are gone before the state is built
        tensors = tensors_of_bytes(
            _read_verified(folder / TENSORS, expected[TENSORS], max_bytes=_room_for_tensors())
        )
        state = decode_state(data, tensors)
    except CheckpointError:
        raise
    except Exception as error:  # whatever a parser says to a file that someone made up
        raise CheckpointError(
            f"{folder} is no checkpoint of fastrl: {error or type(error).__name__}"
        ) from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder / STATE} holds a {type(state).__name__} instead of a state")
    return state


def _read_verified(file: Path, expected: Mapping[str, Any], *, max_bytes: int) -> bytes:
    """A file's bytes, which are those that the manifest speaks of."""
    content = _read_file(file, max_bytes)
    if {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} != expected:
        raise CheckpointError(f"{file} is damaged: its content is not what the manifest says")
    return content


def _read_file(file: Path, max_bytes: int) -> bytes:
    try:
        return read_file(file, max_bytes=max_bytes)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file} cannot be read ({error.strerror})") from None
    except RunFolderError as error:
        raise CheckpointError(str(error)) from None


def _room_for_tensors() -> int:
    """Bytes of the largest file of tensors that can be loaded: its bytes and the tensors made of them are
    there at the same time."""
    available = available_memory()
    return 2**63 if available is None else available // 2


def _read_manifest(file: Path) -> dict[str, Any]:
    raw = _read_file(file, MEGABYTE)
    try:
        manifest = json.loads(raw)
        files = manifest["content"]["files"]
        # the digest guards the values, the comparison of bytes everything between them
        intact = (
            _seal(manifest["content"]) == raw
            and manifest["content"]["format"] == FORMAT
            and set(files) == {STATE, TENSORS}
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise CheckpointError(f"{file} is damaged or not the manifest of a checkpoint")
    return dict(files)


# ------------------------------------------------------------------------------------------- writing


def _manifest(folder: Path, step: int) -> bytes:
    files = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": _sha256(folder / name)}
        for name in (STATE, TENSORS)
    }
    return _seal({"files": files, "format": FORMAT, "step": step})


def _seal(content: Mapping[str, Any]) -> bytes:
    """The manifest's bytes: its content, and a digest of that."""
    digest = hashlib.sha256(_to_json(content)).hexdigest()
    return json.dumps({"content": content, "sha256": digest}, sort_keys=True, indent=1).encode()


def _to_json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, allow_nan=False, separators=(",", ":")).encode()


def _point_latest_at(root: Path, name: str) -> None:
    line = _latest_line(name)
    replace_file(root / LATEST, lambda file: file.write(line.encode()))
    _sync_directory(root)


def _prune(root: Path, keep: int, newest: str) -> None:
    """Remove all but the newest `keep` checkpoints. Failing to is no reason to stop a run: the next save
    tries again."""
    for folder in _checkpoints(root)[:-keep]:
        if folder.name == newest:
            continue
        try:
            # first out of the way under a name that is no checkpoint's, so that a half-removed one is never
            # taken for a damaged one
            shutil.rmtree(folder.rename(folder.with_name(f"{folder.name}.old")))
        except OSError as error:
            warnings.warn(f"the old checkpoint {folder} could not be removed: {error}", stacklevel=3)


def _remove_leftovers(root: Path) -> None:
    """What a killed save or removal left behind."""
    remove_leftovers(root)
    for entry in root.iterdir():
        if TEMPORARY.fullmatch(entry.name):
            if _is_folder(entry):
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


# --------------------------------------------------------------------------------------- directories


def _checkpoints(root: Path) -> list[Path]:
    """Checkpoint directories in the order in which they were saved."""
    if not root.is_dir():
        return []
    found = [
        (int(match[2]), entry)
        for entry in root.iterdir()
        if (match := NAME.fullmatch(entry.name)) and _is_folder(entry)
    ]
    return [entry for _, entry in sorted(found)]


def _is_folder(entry: Path) -> bool:
    """Whether it is a directory and no link to one, which may lie anywhere."""
    return entry.is_dir() and not entry.is_symlink()


def _next_number(root: Path) -> int:
    """One more than any save's so far, whatever stands under its name by now; what LATEST names counts too,
    should it be gone."""
    names = [entry.name for entry in root.iterdir()] + [_read_latest(root) or ""]
    return 1 + max((int(match[2]) for name in names if (match := NAME.fullmatch(name))), default=0)


def _read_latest(root: Path) -> str | None:
    """The name in LATEST, or None when the file is missing, damaged or holds no checkpoint's name (never a
    path to elsewhere)."""
    try:
        line = read_file(root / LATEST, max_bytes=KILOBYTE).decode(errors="replace")
    except (FileNotFoundError, RunFolderError):
        return None
    name = line.partition(" ")[0]
    return name if NAME.fullmatch(name) and line == _latest_line(name) else None


def _latest_line(name: str) -> str:
    """What LATEST holds: the name, and a digest of it, since one changed digit would name another
    checkpoint."""
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
