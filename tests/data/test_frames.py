"""Frames are stored once, and what is read back is what the environments gave, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fastrl.data.collector import Collector
from fastrl.data.frames import StackedFrames, frames_of, link
from fastrl.data.replay import SequenceReplay
from fastrl.data.rollout import Rollout
from fastrl.envs import make_vector_env

BYTES = torch.uint8
Row = dict[str, Tensor]


def stream(
    steps: int, envs: int, count: int, pixels: int, *, padding: str, seed: int = 0, hold: float = 0.1
) -> Iterator[Row]:
    """Stacks as environments give them: rows of `obs` [N, K·P], `next_obs` and flags.

    Episodes end at random, by termination or truncation, and the row after an end resets; the first stack of
    an episode is filled with its first frame, with zeros, or goes on from the episode before. Some rows hold
    their environment.
    """
    random = torch.Generator().manual_seed(seed)

    def frame() -> Tensor:
        # few different pixels, so that frames are equal by chance as well
        return torch.randint(0, 2 if pixels == 1 else 250, (envs, pixels), generator=random, dtype=BYTES)

    def begun(first: Tensor, before: Tensor) -> Tensor:
        if padding == "goes on":
            return torch.cat([before[:, 1:], first[:, None]], 1)
        older = first[:, None].expand(envs, count - 1, pixels)
        return torch.cat([torch.zeros_like(older) if padding == "zeros" else older, first[:, None]], 1)

    obs = begun(frame(), torch.zeros(envs, count, pixels, dtype=BYTES))
    done = torch.zeros(envs, dtype=torch.bool)
    for _ in range(steps):
        new = frame()
        held = (torch.rand(envs, generator=random) < hold) & ~done
        moved = torch.cat([obs[:, 1:], new[:, None]], 1)
        following = torch.where(done[:, None, None], begun(new, obs), moved)
        following = torch.where(held[:, None, None], obs, following)
        ends = torch.rand(2, envs, generator=random) < 0.1
        valid = ~done & ~held
        terminated, truncated = ends[0] & valid, ends[1] & valid & ~ends[0]
        yield {
            "obs": obs.flatten(1),
            "next_obs": following.flatten(1),
            "actions": torch.randint(0, 5, (envs,), generator=random),
            "rewards": torch.rand(envs, generator=random),
            "terminated": terminated,
            "truncated": truncated,
            "valid": valid,
        }
        obs, done = following, terminated | truncated


PADDINGS = ("repeats", "zeros", "goes on")


# ------------------------------------------------------------------------------------------- rollout


def rollouts(count: int, pixels: int, steps: int, envs: int) -> tuple[Rollout, Rollout]:
    """One that stores frames once, and one that stores stacks."""
    fields: dict[str, Any] = {"obs": ((count * pixels,), BYTES), "action": ((), torch.int64)}
    return Rollout(steps, envs, **fields, frames=count), Rollout(steps, envs, **fields)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("count", "pixels"), [(2, 8), (4, 16), (4, 3), (3, 1)])
def test_a_rollout_reads_back_what_was_written(padding: str, count: int, pixels: int) -> None:
    steps, envs = 16, 5
    frames, whole = rollouts(count, pixels, steps, envs)
    for number, row in enumerate(stream(3 * steps, envs, count, pixels, padding=padding)):
        if frames.full:
            frames.reset()
            whole.reset()
        for rollout in (frames, whole):
            rollout.append(**row)
        if number % 5 == 0:
            assert torch.equal(frames.obs[frames.position], whole.obs[whole.position])
        if frames.full:
            assert torch.equal(frames.obs.read(), whole.obs)


def test_reading_is_like_reading_a_tensor() -> None:
    frames, whole = rollouts(4, 8, 12, 3)
    for row in stream(12, 3, 4, 8, padding="repeats"):
        frames.append(**row)
        whole.append(**row)
    obs, expected = frames.obs, whole.obs
    assert isinstance(obs, StackedFrames)
    assert (obs.shape, obs.dtype, obs.device, len(obs)) == (expected.shape, BYTES, expected.device, 13)
    index, envs = torch.tensor([5, 0, 11, 5]), torch.tensor([2, 0])
    flat, mask = expected[:-1].flatten(0, 1), whole.valid.flatten()
    for got, wanted in (
        (obs[3], expected[3]),
        (obs[-1, 1], expected[-1, 1]),
        (obs[index], expected[index]),
        (obs[:, envs], expected[:, envs]),
        (obs[2:5].read(), expected[2:5]),
        (obs[:-1].flatten(0, 1)[index], flat[index]),
        (obs[:-1].flatten(0, 1)[mask].read(), flat[mask]),
        (frames.valid_rows(obs).index_select(0, index), whole.valid_rows(expected).index_select(0, index)),
    ):
        assert isinstance(got, Tensor) and torch.equal(got, wanted)
    assert isinstance(frames.valid_rows(obs), StackedFrames), "rows are not read before they are needed"


def test_a_rollout_stores_each_frame_once() -> None:
    """128 steps of 8 environments at Atari's sizes: 28,224 bytes a row as stacks."""
    fields: dict[str, Any] = {"obs": ((4, 84, 84), BYTES), "action": ((), torch.int64), "device": "meta"}
    steps, envs, frame = 128, 8, 84 * 84
    other = Rollout(steps, envs, **fields).nbytes - (steps + 1) * envs * 4 * frame
    once = Rollout(steps, envs, **fields, frames=4).nbytes - other
    # beside the newest frame of each row three older ones of the first, one of zeros, and 16 bytes of places
    assert once == (steps + 1 + 3 + 1) * envs * frame + (steps + 1) * envs * 4 * 4
    assert once < 0.27 * (steps + 1) * envs * 4 * frame


def test_what_is_no_stack_is_refused() -> None:
    frames, _ = rollouts(4, 8, 4, 2)
    rows = list(stream(3, 2, 4, 8, padding="repeats"))
    frames.append(**rows[0])
    strange = rows[1]["next_obs"].clone()
    strange[1, 0] += 1
    with pytest.raises(ValueError, match="next_obs of environment 1 is no stack of 4 frames"):
        frames.append(**rows[1] | {"next_obs": strange})
    with pytest.raises(ValueError, match="obs must be the next_obs of the row before"):
        frames.append(**rows[1] | {"obs": strange})
    frames.append(**rows[1])


def test_a_half_filled_rollout_is_saved_and_goes_on() -> None:
    one, whole = rollouts(4, 8, 12, 3)
    two, _ = rollouts(4, 8, 12, 3)
    rows = [dict(row) for row in stream(12, 3, 4, 8, padding="zeros")]
    for row in rows[:5]:
        one.append(**row)
        whole.append(**row)
    two.load_state_dict(one.state_dict())
    for row in rows[5:]:
        two.append(**{name: value.clone() for name, value in row.items()})
        whole.append(**row)
    assert torch.equal(two.obs.read(), whole.obs)


@pytest.mark.parametrize(
    "settings",
    [{"env_kwargs": {"episodic_life": True, "noop_max": 1}, "max_episode_steps": 40}, {"frame_stack": 2}],
)
def test_frames_of_atari(settings: dict[str, Any]) -> None:
    """EnvPool's own stacks: whole games, lives, and truncated episodes."""
    with make_vector_env("Breakout-v5", 3, seed=2, **settings) as env:
        count = frames_of(env)
        assert count == env.obs_shape[0] > 1
        fields: dict[str, Any] = {"obs": (env.obs_shape, env.obs_dtype), "action": ((), torch.int64)}
        frames, whole = Rollout(32, 3, **fields, frames=count), Rollout(32, 3, **fields)
        collector, random = Collector(env, frames), torch.Generator().manual_seed(0)
        collector.restart()
        resets = 0

        def act(obs: Tensor) -> dict[str, Tensor]:
            nonlocal latest
            latest = obs
            return {"actions": torch.randint(0, 4, (3,), generator=random)}

        def kept(timestep: Any) -> None:
            nonlocal resets
            resets += int((~timestep.valid).sum())
            row = {name: getattr(frames, name)[frames.position - 1] for name in ("actions", "rewards")}
            flags = {name: getattr(timestep, name) for name in ("terminated", "truncated", "valid")}
            whole.append(obs=latest, next_obs=timestep.obs, **row, **flags)

        latest = collector.obs
        for _ in range(4):
            whole.reset()
            assert collector.fill(act, after_step=kept)
            assert torch.equal(frames.obs.read(), whole.obs)
        assert resets > 0 or "env_kwargs" not in settings


# -------------------------------------------------------------------------------------------- replay


def replays(count: int, pixels: int, capacity: int, envs: int, seed: int = 3) -> list[SequenceReplay]:
    """One that stores frames once, and one that stores stacks; both draw the same windows."""
    fields: dict[str, Any] = {"obs": ((count * pixels,), BYTES), "action": ((), torch.int64)}
    return [SequenceReplay(capacity, envs, **fields, seed=seed, frames=frames) for frames in (count, 1)]


def add(replay: SequenceReplay, row: Row) -> None:
    replay.add(**{name: value for name, value in row.items() if name != "next_obs"})


def same_windows(one: SequenceReplay, two: SequenceReplay, length: int) -> None:
    if not two.can_sample(length):
        return
    mine, other = one.sample(16, length), two.sample(16, length)
    for name in ("obs", "actions", "rewards", "terminated", "truncated", "valid"):
        assert torch.equal(getattr(mine, name), getattr(other, name)), name


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("count", "pixels"), [(2, 8), (4, 16), (3, 1)])
@pytest.mark.parametrize("length", [1, 3])
def test_a_replay_draws_what_was_written(padding: str, count: int, pixels: int, length: int) -> None:
    """Through a ring of 20 rows that is written over several times."""
    one, two = replays(count, pixels, 60, 3)
    for row in stream(110, 3, count, pixels, padding=padding):
        add(one, row)
        add(two, row)
        same_windows(one, two, length)
    assert len(one) == len(two) and one.write_position == two.write_position


def test_a_replay_stores_each_frame_once() -> None:
    fields: dict[str, Any] = {"obs": ((4 * 84 * 84,), BYTES), "action": ((), torch.int64)}
    rows, envs = 1_000, 4
    once = SequenceReplay.nbytes_of(rows * envs, envs, **fields, frames=4)
    assert once == SequenceReplay(rows * envs, envs, **fields, frames=4, seed=0).storage.nbytes
    assert once < 1.02 * rows * envs * 84 * 84
    assert SequenceReplay.nbytes_of(rows * envs, envs, **fields) > 3.9 * once


def test_a_saved_replay_goes_on() -> None:
    one, whole = replays(4, 8, 60, 3)
    two = replays(4, 8, 60, 3, seed=5)[0]
    for number, row in enumerate(stream(90, 3, 4, 8, padding="repeats")):
        if number == 47:
            two.load_state_dict(one.state_dict())
        for replay in (one, whole) if number < 47 else (two, whole):
            add(replay, row)
    same_windows(two, whole, 2)
    state = one.state_dict()
    state["ring"]["written"] += 1
    with pytest.raises(ValueError, match="'written' must be the number of its rows"):
        two.load_state_dict(state)
    state = one.state_dict()
    state["rows"]["frames"][0, 0, 0] = 1000
    with pytest.raises(ValueError, match="'frames' must be numbers of its rows"):
        two.load_state_dict(state)


def test_stacks_from_nowhere_bring_their_frames_along() -> None:
    """A replay that begins in the middle of episodes, and one environment that jumps while others go on."""
    replay = replays(4, 8, 90, 3)[0]
    rows = [dict(row) for row in stream(30, 3, 4, 8, padding="repeats", hold=0.0)]
    for row in rows[10:20]:
        add(replay, row)
    jump = rows[20]["obs"].clone()
    jump[1] = torch.arange(32, dtype=BYTES)
    add(replay, rows[20] | {"obs": jump})
    # three rows bring the older frames of all environments at the beginning, and three those of the jump
    assert replay.index.rows == 11 + 2 * 3
    following: dict[bytes, Tensor] = {}
    for row, after in zip(rows[10:20], [*rows[11:20], rows[20] | {"obs": jump}], strict=True):
        for env in range(3):
            if env != 1 or after["obs"] is not jump:
                following[row["obs"][env].numpy().tobytes()] = after["obs"][env]
    batch = replay.sample(400, 1)
    assert batch.valid.all()
    seen = 0
    for first, second in zip(batch.obs[0], batch.obs[1], strict=True):
        expected = following.get(first.numpy().tobytes())
        if expected is not None:
            seen += 1
            assert torch.equal(second, expected)
    assert seen > 300


def test_an_environment_that_is_held_for_long() -> None:
    one, two = replays(3, 8, 90, 2)
    held = torch.tensor([False, True])
    rows = [dict(row) for row in stream(60, 2, 3, 8, padding="repeats", hold=0.0)]
    stuck = rows[8]["obs"][1]
    for number, row in enumerate(rows[:20]):
        if number > 8:
            obs = row["obs"].clone()
            obs[1] = stuck
            row = row | {"obs": obs, "valid": row["valid"] & ~held}
        for replay in (one, two):
            add(replay, row)
    batch = one.sample(200, 1)
    valid = {row["obs"][env].numpy().tobytes() for row in rows[:20] for env in range(2)}
    assert all(obs.numpy().tobytes() in valid for obs in batch.obs[0])


def test_link_by_hand() -> None:
    """Two frames more are nowhere, one is the one before."""
    before = torch.tensor([[[1], [2], [3]]], dtype=BYTES)
    places = torch.tensor([[10, 20, 30]], dtype=torch.int32)
    own = torch.tensor([40], dtype=torch.int32)
    for frames, expected in (
        ([2, 3, 4], [20, 30, 40]),
        ([1, 2, 3], [10, 20, 40]),  # held: its newest frame is stored again
        ([5, 5, 5], [40, 40, 40]),
        ([0, 0, 5], [-1, -1, 40]),
        ([0, 3, 5], [-1, 30, 40]),
    ):
        found, missing = link(torch.tensor(frames, dtype=BYTES).view(1, 3, 1), before, places, own, -1)
        assert found.tolist() == [expected] and missing is None
    found, missing = link(torch.tensor([7, 8, 9], dtype=BYTES).view(1, 3, 1), before, places, own, -1)
    assert missing is not None and missing.tolist() == [0]
