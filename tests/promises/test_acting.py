"""One observation or a batch, normalised by whoever has the statistics: every way of acting plays what an
evaluation plays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from learners import modules_of, play, values_of

from fastrl.errors import NonFiniteError, SettingError

STATISTICS = {"normalize_observation": True}


def made(trainer_of: Callable[..., Any], algorithm: str, env_id: str) -> Any:
    more = {} if algorithm in ("mpo", "sac") else STATISTICS
    trainer = trainer_of(algorithm, env_id=env_id, **more)
    play(trainer, 2)
    return trainer


@pytest.mark.parametrize("env_id", ["CartPole-v1", "LinearQuadratic-v0"])
def test_one_observation_is_a_row_of_a_batch_and_of_an_evaluation(
    algorithm: str, env_id: str, trainer_of: Callable[..., Any]
) -> None:
    with made(trainer_of, algorithm, env_id) as trainer:
        obs = 3.0 * torch.randn(5, *trainer.env.obs_shape)
        played = trainer.actor(5).act(obs, deterministic=True).numpy()
        many = trainer.act(obs, deterministic=True)
        assert np.array_equal(many, played) and isinstance(many, np.ndarray)
        for row, action in zip(obs, played, strict=True):
            for one in (row, row.numpy(), row.double().numpy(), row.tolist()):
                np.testing.assert_allclose(trainer.act(one, deterministic=True), action, rtol=1e-4, atol=1e-6)
            (acted,) = trainer.actor(1).act(row[None], deterministic=True).numpy()
            np.testing.assert_allclose(acted, action, rtol=1e-4, atol=1e-6)
        whole = [3] * int(np.prod(trainer.env.obs_shape))
        assert np.array_equal(
            trainer.act(whole, deterministic=True),
            trainer.act(np.array(whole, np.float32), deterministic=True),
        )
        assert torch.equal(
            trainer.actor(1).act(torch.tensor([whole]), deterministic=True),
            trainer.actor(1).act(torch.tensor([whole]).float(), deterministic=True),
        )
        drawn = [trainer.act(obs) for _ in range(20)]
        assert (
            drawn[0].shape == many.shape
            and drawn[0].dtype == many.dtype
            and any(not np.array_equal(drawn[0], one) for one in drawn)
        )
        assert trainer.act(obs[0]).shape == many.shape[1:]
        trainer.env.step(torch.as_tensor(trainer.act(obs)[: trainer.env.num_envs]))  # environments take them


def test_other_shapes_are_refused_by_name(algorithm: str, trainer_of: Callable[..., Any]) -> None:
    with made(trainer_of, algorithm, "CartPole-v1") as trainer:
        if trainer.env.obs_shape != (4,):
            pytest.skip("the sentences are those of CartPole's observations; this algorithm gets others")
        for deterministic in (True, False):
            for wrong in (np.zeros(3), np.zeros((2, 5)), np.zeros((2, 2, 4)), 0.0):
                with pytest.raises(
                    ValueError, match=r"Trainer.act: obs must have shape \[4\] or \[B, 4\], got"
                ):
                    trainer.act(wrong, deterministic=deterministic)
            for wrong in ({"a": 1}, "text", [[1.0], [1.0, 2.0]]):
                with pytest.raises(
                    ValueError, match=r"Trainer.act: obs must be numbers of shape \[4\] or \[B, 4\], got"
                ):
                    trainer.act(wrong, deterministic=deterministic)
            for obs, place in (
                ([0.0, 1.0, np.nan, 2.0], "2"),
                (np.full((2, 4), 1e300), "0, 0"),
                (torch.full((1, 4), -np.inf), "0, 0"),
            ):
                with pytest.raises(
                    NonFiniteError, match=rf"Trainer.act: obs\[{place}\] is .*, as float32 not finite"
                ):
                    trainer.act(obs, deterministic=deterministic)
        with pytest.raises(ValueError, match=r"obs must have shape \[4\] or \[B, 4\], got \[2, 3\]"):
            trainer.actor(2).act(torch.zeros(2, 3), deterministic=True)


def test_learning_under_autocast_is_learning_without_it(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Any
) -> None:
    ends = []
    for active in (False, True):
        with (
            trainer_of(algorithm, env_id="LinearQuadratic-v0") as trainer,
            trainer.session(),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=active),
        ):
            trainer.run(64, tmp_path / str(active))
            play(trainer)  # a loop of one's own
            obs = torch.ones(2, *trainer.env.obs_shape)
            ends.append(
                (values_of(modules_of(trainer)), trainer.act(obs, deterministic=True), trainer.act(obs))
            )
    assert all(torch.equal(value, ends[1][0][key]) for key, value in ends[0][0].items())
    assert np.array_equal(ends[0][1], ends[1][1]) and np.array_equal(ends[0][2], ends[1][2])


def test_another_default_dtype_is_refused_at_once(
    algorithm: str, trainer_of: Callable[..., Any], tmp_path: Any
) -> None:
    with trainer_of(algorithm) as trainer:
        torch.set_default_dtype(torch.float64)
        try:
            for do in (lambda: trainer_of(algorithm), lambda: trainer.run(64, tmp_path)):
                with pytest.raises(
                    SettingError,
                    match=r"torch's default dtype is float64.*call torch.set_default_dtype\(torch.float32\)",
                ):
                    do()
        finally:
            torch.set_default_dtype(torch.float32)
