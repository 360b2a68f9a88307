"""The toy environments: their dynamics, their known optima, and exact saving."""

import numpy as np
import pytest
import torch

from fastrl.envs import make_vector_env
from fastrl.envs.toys import TOYS, LinearQuadratic, ProofofMemory
from fastrl.envs.toys.dynamics import ColumnRandom
from fastrl.errors import SettingError

ALL = np.ones


def random_actions(env, generator):
    if env.action.kind == "continuous":
        return torch.randn(env.num_envs, env.action.dim, generator=generator)
    return torch.randint(env.action.num_actions, (env.num_envs,), generator=generator)


def enumerate_proof_of_memory():
    """Returns [strings, 5, 2] of every action string (14 free steps) from every start and order of goals."""
    free = 14
    strings = (np.arange(2**free)[:, None] >> np.arange(free)) & 1
    cells, goals = np.meshgrid(np.arange(-2, 3), [-1, 1], indexing="ij")
    columns = len(strings) * cells.size
    env = ProofofMemory(range(columns))
    env.start(ALL(columns, bool))
    env.cell = np.tile(cells.ravel(), len(strings))
    env.right_goal = np.tile(goals.ravel(), len(strings))
    actions = np.repeat(
        np.concatenate([np.zeros((len(strings), 2), np.int64), strings], axis=1), cells.size, axis=0
    )
    returns, running = np.zeros(columns), ALL(columns, bool)
    for step in range(16):
        reward, terminated, truncated = env.step(actions[:, step], running)
        returns += reward
        running &= ~(terminated | truncated)
    assert not running.any()
    return returns.reshape(len(strings), 5, 2)


def test_proof_of_memory_has_the_stated_optimum_and_memoryless_bound():
    returns = enumerate_proof_of_memory()
    # with memory the actions may depend on start and goals; without, only on the position: an action string
    # per start is an upper bound
    assert returns.max(axis=0).mean() == pytest.approx(1.20)
    assert returns.mean(axis=2).max(axis=0).mean() == pytest.approx(-0.28)
    # and walking to the nearer end reaches that bound while looking at nothing but the position
    towards_right, towards_left = returns[-1].mean(axis=1), returns[0].mean(axis=1)
    nearer = [towards_left[0], towards_left[1], towards_right[2], towards_right[3], towards_right[4]]
    assert np.mean(nearer) == pytest.approx(-0.28)
    env = make_vector_env("ProofofMemory-v0")
    assert env.optimal_return == pytest.approx(1.20)
    assert env.dynamics.memoryless_return == pytest.approx(-0.28)


def test_proof_of_memory_shows_the_goals_for_two_steps_and_freezes_the_agent():
    env = make_vector_env("ProofofMemory-v0", 400, seed=2)
    obs = env.reset()
    assert set(obs[:, 1].mul(5).round().int().tolist()) == {-2, -1, 0, 1, 2}
    assert set(obs[:, 2].tolist()) == {-1.0, 1.0}
    assert torch.equal(obs[:, 0], -obs[:, 2])
    right = torch.ones(400, dtype=torch.int64)
    first = env.step(right)
    assert torch.equal(first.obs, obs) and not first.reward.any()
    second = env.step(right)
    assert torch.equal(second.obs[:, 1], obs[:, 1]) and not second.reward.any()
    assert not second.obs[:, [0, 2]].any()
    third = env.step(right)
    assert torch.allclose(third.obs[:, 1], obs[:, 1] + 0.2) and torch.allclose(
        third.reward, torch.tensor(-0.1)
    )


def test_proof_of_memory_ends_at_the_goals_or_after_16_steps():
    env = make_vector_env("ProofofMemory-v0", 64, seed=2)
    good = env.reset()[:, 2] > 0
    for _ in range(10):
        step = env.step(torch.ones(64, dtype=torch.int64))
        ended = step.terminated
        assert torch.allclose(step.reward[ended], torch.where(good, 1.6, -1.6)[ended])
        good = torch.where(step.valid, good, step.obs[:, 2] > 0)
    assert all(5 <= episode.length <= 9 for episode in env.pop_episodes())
    env.reset()
    for index in range(16):
        step = env.step(torch.full((64,), index % 2))
        assert not step.terminated.any() and bool(step.truncated.all()) == (index == 15)


def test_identity_gives_its_optimum_for_naming_the_symbol_and_nothing_else():
    env = make_vector_env("Identity-v0", 8, seed=1, env_kwargs={"num_symbols": 5})
    obs = env.reset()
    for _ in range(17):
        obs = env.step(obs.argmax(1)).obs
    assert [episode.episode_return for episode in env.pop_episodes()] == [env.optimal_return] * 8
    obs = env.reset()
    for _ in range(16):
        obs = env.step((obs.argmax(1) + 1) % 5).obs
    assert [episode.episode_return for episode in env.pop_episodes()] == [0.0] * 8


def test_continuous_identity_pays_the_squared_distance_after_clipping():
    env = make_vector_env("IdentityContinuous-v0", 4, seed=1, env_kwargs={"dim": 3})
    obs = env.reset()
    step = env.step(obs)
    assert torch.allclose(step.reward, torch.tensor(env.optimal_return))
    far = env.step(torch.full((4, 3), 5.0))
    assert torch.allclose(far.reward, -(1.0 - step.obs).square().sum(1))


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_counter_counts_and_its_reset_reward_never_shows(end):
    env = make_vector_env("Counter-v0", 2, env_kwargs={"length": 4, "end": end})
    assert env.reset().tolist() == [[0.0], [0.0]]
    for episode in range(3):
        if episode:
            reset = env.step(torch.zeros(2, dtype=torch.int64))
            assert reset.obs.tolist() == [[0.0], [0.0]] and not reset.valid.any() and not reset.reward.any()
        steps = [env.step(torch.zeros(2, dtype=torch.int64)) for _ in range(4)]
        assert [step.obs[0].item() for step in steps] == [1.0, 2.0, 3.0, 4.0]
        assert [step.reward[0].item() for step in steps] == [0.0, 1.0, 2.0, 3.0]
        assert [getattr(step, end)[0].item() for step in steps] == [False, False, False, True]
        assert all(step.valid.all() for step in steps)
    assert {episode[1:] for episode in env.pop_episodes()} == {(6.0, 4)} and env.optimal_return == 6.0


@pytest.mark.parametrize("env_id", TOYS)
def test_everything_arrives_on_the_device_that_was_asked_for(env_id, device):
    env = make_vector_env(env_id, 3, seed=3, device=device)
    assert env.reset().device.type == device.type
    actions = random_actions(env, torch.Generator().manual_seed(0)).to(device)
    step = env.step(actions)
    assert all(tensor.device.type == device.type for tensor in step)
    on_cpu = make_vector_env(env_id, 3, seed=3)
    on_cpu.reset()
    assert all(
        torch.equal(mine.cpu(), theirs) for mine, theirs in zip(step, on_cpu.step(actions.cpu()), strict=True)
    )


@pytest.mark.parametrize("env_id", TOYS)
def test_saving_and_loading_continues_bit_for_bit(env_id):
    generator = torch.Generator().manual_seed(0)
    env = make_vector_env(env_id, 5, seed=3)
    env.reset()
    for _ in range(21):
        env.step(random_actions(env, generator))
    state = env.state_dict()
    other = make_vector_env(env_id, 5, seed=3)
    other.load_state_dict(state)
    for _ in range(40):
        actions = random_actions(env, generator)
        for mine, theirs in zip(env.step(actions), other.step(actions), strict=True):
            assert torch.equal(mine, theirs)
    assert env.pop_episodes() == other.pop_episodes()
    with pytest.raises(ValueError, match="4 x"):
        make_vector_env(env_id, 4).load_state_dict(state)


@pytest.mark.parametrize("env_id", ["Identity-v0", "IdentityContinuous-v0", "ProofofMemory-v0"])
def test_the_seed_decides_the_episodes(env_id):
    first, same, other = (make_vector_env(env_id, 32, seed=seed).reset() for seed in (4, 4, 5))
    assert torch.equal(first, same) and not torch.equal(first, other)
    env = make_vector_env(env_id, 32, seed=4)
    env.reset()
    assert not torch.equal(env.reset(), first)  # afresh means new episodes, not the same ones again


def test_column_streams_are_uniform_and_independent_of_their_neighbours():
    alone, crowd = ColumnRandom([7]), ColumnRandom([5, 7, 9])
    everyone = ALL(3, bool)
    drawn = []
    for index in range(2000):
        crowd.uniform(np.array([index % 3 == 0, False, False]))  # a neighbour draws more often
        drawn.append(crowd.uniform(everyone))
        assert drawn[-1][1] == alone.uniform(ALL(1, bool))[0]
    values = np.array(drawn)
    assert values.min() >= 0.0 and values.max() < 1.0
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert ((counts - 600) ** 2 / 600).sum() < 27.9  # chi-squared, 9 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(values.T)[np.triu_indices(3, 1)]).max() < 0.08


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("Counter-v0", {"lenght": 3}, "lenght.*did you mean 'length'"),
        ("Counter-v0", {"length": 0}, "length"),
        ("Counter-v0", {"length": [1, 2, 3]}, "length"),
        ("Counter-v0", {"end": "done"}, "end must be"),
        ("Identity-v0", {"max_episode_steps": 0}, "max_episode_steps"),
    ],
)
def test_wrong_options_are_named(env_id, options, message):
    with pytest.raises(SettingError, match=message):
        make_vector_env(env_id, 2, env_kwargs=options)


def test_curves_get_the_known_returns():
    assert make_vector_env("ProofofMemory-v0").reference_returns == {
        "optimum": 1.2,
        "best without memory": -0.28,
    }
    assert make_vector_env("Identity-v0").reference_returns == {"optimum": 16.0}


def test_the_best_gain_of_the_linear_quadratic_task():
    """At γ = 0 no push is worth its cost; otherwise no other gain does better over a long episode."""
    assert LinearQuadratic.gain(0.0) == 0.0
    gamma, columns = 0.9, np.ones(400, bool)
    best = LinearQuadratic.gain(gamma)
    returns = []
    for gain in (0.9 * best, best, 1.1 * best):
        env = LinearQuadratic(range(400), noise=0.0, max_episode_steps=300)
        env.start(columns)
        start, total = env.point.copy(), np.zeros(400)
        for step in range(200):
            reward, terminated, _ = env.step((-gain * env.point)[:, None].astype(np.float32), columns)
            assert not terminated.any()
            total += gamma**step * reward
        returns.append(total.mean())
    assert returns[1] > max(returns[0], returns[2])
    assert returns[1] == pytest.approx(
        -LinearQuadratic.value_curvature(gamma) * np.square(start).mean(), rel=1e-5
    )
