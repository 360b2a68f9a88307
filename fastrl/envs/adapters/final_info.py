"""What vector environments put into `infos` about finished episodes, in any version of Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FINAL_OBS_KEYS = ("final_obs", "final_observation", "terminal_observation")


def _iter_final_info_entries(infos: Mapping[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """(env_index, final info) of every environment whose episode has just ended.

    Layouts of `infos["final_info"]`: a list or object array with a dict or None per environment (with or
    without the mask `infos["_final_info"]`); a dict keyed by environment index; a dict of arrays with masks
    (Gymnasium 1.x); the dict of a single environment, which counts as index 0.
    """
    final = infos.get("final_info")
    if final is None:
        return []
    mask = infos.get("_final_info")
    if not isinstance(final, Mapping):
        return [
            (i, dict(entry))
            for i, entry in enumerate(final)
            if isinstance(entry, Mapping) and (mask is None or mask[i])
        ]
    if final and all(isinstance(key, int | np.integer) for key in final):
        return [(int(i), dict(entry)) for i, entry in final.items() if isinstance(entry, Mapping)]
    if mask is not None and np.ndim(mask) == 1:
        return [(int(i), _column(final, int(i))) for i in np.flatnonzero(mask)]
    return [(0, dict(final))]


def _column(columns: Mapping[str, Any], index: int) -> dict[str, Any]:
    """One environment's info out of a dict of arrays, whose masks have an underscore before the name."""
    picked: dict[str, Any] = {}
    for key, values in columns.items():
        if isinstance(key, str) and key.startswith("_") and key[1:] in columns:
            continue  # a mask
        mask = columns.get(f"_{key}")
        if mask is not None and not np.asarray(mask)[index]:
            continue
        picked[key] = _column(values, index) if isinstance(values, Mapping) else values[index]
    return picked


def _extract_final_observations(
    infos: Mapping[str, Any] | Sequence[Mapping[str, Any]], num_envs: int
) -> list[Any]:
    """The last observation of each environment whose episode has just ended, None for the others.

    Read from `final_obs` or `final_observation` with its mask, else from the final infos; from each
    environment's own, where there is a list of them (the wrapper `DictInfoToList`).
    """
    if not isinstance(infos, Mapping):
        return [
            next((info[key] for key in FINAL_OBS_KEYS if info.get(key) is not None), None) for info in infos
        ]
    found: list[Any] = [None] * num_envs
    for key in FINAL_OBS_KEYS:
        if infos.get(key) is not None:
            _pick_final_observations(infos[key], infos.get(f"_{key}"), found)
            return found
    for index, entry in _iter_final_info_entries(infos):
        last = next((entry[key] for key in FINAL_OBS_KEYS if entry.get(key) is not None), None)
        if index < num_envs:
            found[index] = last
    return found


def _pick_final_observations(values: Any, mask: Any, found: list[Any]) -> None:
    if isinstance(values, Mapping) and all(
        isinstance(key, int | np.integer) for key in values
    ):  # keyed by environment index
        for index, last in values.items():
            found[int(index)] = last
        return
    for index in range(len(found)) if mask is None else np.flatnonzero(mask).tolist():
        found[index] = (_column(values, index) or None) if isinstance(values, Mapping) else values[index]


def _extract_episode_returns(infos: Mapping[str, Any]) -> list[tuple[int, float]]:
    """(env_index, return) of every episode that has just ended, as `RecordEpisodeStatistics` reports it.

    Read from `episode` with its mask, else from the final infos. A report of a single environment counts as
    index 0.
    """
    episode = infos.get("episode")
    if isinstance(episode, Mapping) and "r" in episode:
        returns = np.asarray(episode["r"], np.float64)
        mask = infos.get("_episode", episode.get("_r"))
        if returns.size == 1 and np.ndim(mask) == 0:
            return [(0, float(returns.reshape(-1)[0]))]
        ended = np.arange(returns.size) if mask is None else np.flatnonzero(mask)
        return [(int(i), float(returns[i])) for i in ended]
    entries = _iter_final_info_entries(infos)
    reports = [(i, entry["episode"]) for i, entry in entries if isinstance(entry.get("episode"), Mapping)]
    return [(i, float(np.asarray(report["r"]).reshape(-1)[0])) for i, report in reports if "r" in report]
