"""Stacked states: what stands side by side, where stacks begin anew, and that acting, learning and evaluating
see the same ones."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs import GymEnv, Timestep, make_vector_env
from fastrl.errors import SettingError
from fastrl.runs.checkpoint import load_checkpoint, save_checkpoint
from fastrl.toolkit.agents import agent_from_config
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import (
    Frame2Float,
    RewardClipper,
    RewardConstScaler,
    RewardRunScaler,
    StackStates,
    StateRunNorm,
    atari_transforms,
    mujoco_transforms,
)
from fastrl.toolkit.batchers.view import StateView
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.net_builder import packaged_arch


def first_action(state, step):
    return torch.zeros(len(state), dtype=torch.int64)


def make_batcher(env="Counter-v0", batch_size=20, transforms=None, **settings):
    transforms = [StackStates(3)] if transforms is None else transforms
    return RolloutBatcher(env, batch_size, **{"num_envs": 4, "seed": 1, "transforms": transforms, **settings})


def test_states_stand_side_by_side_along_a_dimension():
    images = torch.arange(2 * 1 * 3 * 4).view(2, 1, 3, 4)
    assert StackStates(4).state_shape((1, 84, 84)) == (4, 84, 84) and StackStates(2, dim=3).state_shape(
        (1, 3, 4)
    ) == (1, 3, 8)
    for dim in (1, 2, 3):
        stack = StackStates(2, dim)
        first, second = (
            stack.next_state(images + 100 * i, *flags)
            for i, flags in enumerate([(None, None), (torch.zeros(2).bool(),) * 2])
        )
        assert torch.equal(first, torch.cat((images, images), dim)) and torch.equal(
            second, torch.cat((images, images + 100), dim)
        )
        assert second.shape[1:] == stack.state_shape((1, 3, 4))


@pytest.mark.parametrize("arguments", [(0,), (2.5,), (True,), (2, 0)])
def test_sizes_of_no_use_are_refused(arguments):
    with pytest.raises(SettingError, match="of StackStates must be a whole number of at least 1"):
        StackStates(*arguments)
    with pytest.raises(
        SettingError, match=r"dim of StackStates must be at most 1, since states have shape \[1\], got 2"
    ):
        make_batcher(transforms=[StackStates(2, dim=2)])


def test_a_stack_is_cleared_where_an_episode_ends_in_training():
    batcher = make_batcher()  # the state counts the steps of an episode of 8; rollouts of 5 cut it anywhere
    assert batcher.get_state_info().shape == (3,)
    for _ in range(8):
        batch = batcher.get_batch(first_action)
        states = batch.state_t_and_tp1
        now = states[..., -1:]
        assert torch.equal(
            states, (now - torch.tensor([2.0, 1.0, 0.0])).clamp(min=0)
        )  # nothing of the episode before
        assert torch.equal(
            batch.state_tp1[..., -1][batch.valid], batch.state_t[..., -1][batch.valid] + 1
        )  # the last state is stacked, too


@pytest.mark.parametrize(("before", "after"), [([], []), ([StateRunNorm()], []), ([], [StateRunNorm(3.0)])])
def test_the_policy_acts_on_the_stacks_that_it_learns_from(before, after):
    seen = []

    def act(state, step):
        seen.append(state.clone())
        return first_action(state, step)

    batcher = make_batcher(transforms=[*before, StackStates(3), *after])
    for _ in range(6):
        seen.clear()
        batch = batcher.get_batch(act)
        torch.testing.assert_close(torch.stack(seen), batch.state_t)
    for transform in (*before, *after):
        assert transform.normalizer.count == batcher.num_steps and transform.normalizer.mean.shape == (
            (1,) if before else (3,)
        )


def timestep(obs, ended=False, valid=True):
    return Timestep(
        torch.tensor([[obs]]),
        torch.zeros(1),
        torch.tensor([ended]),
        torch.tensor([False]),
        torch.tensor([valid]),
    )


def test_an_environment_that_is_held_keeps_its_stack():
    view = StateView([StackStates(3)])
    seen = [view.look(torch.tensor([[1.0]]))]
    rows = [
        timestep(2.0),
        timestep(2.0, valid=False),
        timestep(3.0),
        timestep(4.0, ended=True),
        timestep(7.0, valid=False),
        timestep(8.0),
    ]
    for row in rows:
        view.observe(row)
        seen.append(view.look(row.obs))
    assert [state[0].tolist() for state in seen] == [
        *([1, 1, 1], [1, 1, 2], [1, 1, 2], [1, 2, 3], [2, 3, 4]),
        *([7, 7, 7], [7, 7, 8]),
    ]


class Countdown(gym.Env):
    """The state counts the steps; an episode has 3 to 6 of them."""

    observation_space = gym.spaces.Box(0, 9, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.length, self.count = int(self.np_random.integers(3, 7)), 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.full(1, self.count, np.float32), 1.0, self.count == self.length, False, {}


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
def test_stacks_are_the_same_in_every_autoreset_mode(mode):
    vector = gym.vector.SyncVectorEnv([Countdown] * 3, autoreset_mode=mode)
    batcher = RolloutBatcher(make_vector_env(vector, 3, seed=2), 24, transforms=[StackStates(3)])
    for _ in range(5):
        states = batcher.get_batch(first_action).state_t_and_tp1
        assert torch.equal(states, (states[..., -1:] - torch.tensor([2.0, 1.0, 0.0])).clamp(min=0))


def test_evaluations_begin_with_empty_stacks_and_leave_those_of_training_alone(capsys):
    config = Config.from_default("PPOClip")
    config.update({"batch_size": 64, "seed": 3, "transforms": [{"func": StackStates, "n": 3}]})
    config.env.num_envs = 4
    agents = [agent_from_config(config, env="Counter-v0", log_dir=None) for _ in range(2)]
    seen = []

    def watch(model, state, step):
        seen.append(state.clone())
        return np.zeros(len(state), np.int64)

    evaluated, plain = agents
    evaluated.eval_select_action_fn = watch
    for iteration in (1, 2, 3):
        for agent in agents:
            torch.manual_seed(iteration)
            agent.train(max_iters=iteration)
        seen.clear()
        evaluated.evaluate(GymEnv("Counter-v0"), 3)
        states = torch.cat(seen)
        assert (
            torch.equal(states, (states[:, -1:] - torch.tensor([2.0, 1.0, 0.0])).clamp(min=0))
            and (states.sum(1) == 0).sum() >= 3
        )
    for mine, its in zip(evaluated.models.policy.parameters(), plain.models.policy.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("stop_after", [0, 2])
def test_stacks_go_on_exactly_from_a_checkpoint_in_the_middle_of_an_episode(tmp_path, stop_after):
    first, second = (
        make_batcher("ProofofMemory-v0", transforms=[StackStates(3), StateRunNorm()]) for _ in range(2)
    )
    first.get_batch(first_action)
    steps = iter(range(100))
    first.fill(first_action, lambda: next(steps) == stop_after)
    save_checkpoint(tmp_path, first.state_dict(), step=1)
    second.load_state_dict(load_checkpoint(tmp_path))
    for _ in range(3):
        one, other = (batcher.get_batch(first_action) for batcher in (first, second))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_environments_that_cannot_go_on_begin_with_new_stacks():
    batcher = make_batcher("CartPole-v1")
    batcher.get_batch(first_action)
    batcher.load_state_dict(batcher.state_dict())
    state = batcher.get_batch(first_action).state_t[0]
    assert torch.equal(state[:, :4], state[:, 8:]) and torch.equal(state[:, 4:8], state[:, 8:])


def test_the_bundles():
    stack, pixels, clipper = atari_transforms(stack=2)
    assert (
        (stack.n, stack.dim) == (2, 1)
        and isinstance(pixels, Frame2Float)
        and (type(clipper), clipper.bound) == (RewardClipper, 1.0)
    )
    assert atari_transforms()[0].n == 4
    states, rewards = mujoco_transforms()
    assert (type(states), states.clip_range, type(rewards), rewards.scaler.clip) == (
        StateRunNorm,
        5.0,
        RewardRunScaler,
        5.0,
    )
    assert mujoco_transforms()[0] is not states and isinstance(RewardConstScaler(), RewardConstScaler)


def test_frames_of_atari_are_stacked_as_envpool_stacks_them():
    pytest.importorskip("envpool")

    def rollout(transforms, **options):
        batcher = RolloutBatcher(
            GymEnv("Pong-v5", max_episode_steps=9, **options),
            2 * 16,
            num_envs=2,
            seed=4,
            transforms=transforms,
        )
        generator = torch.Generator().manual_seed(0)
        return batcher.get_batch(lambda state, step: torch.randint(6, (2,), generator=generator))

    batch = rollout([Frame2Float()])
    expected, found = batch.state_t_and_tp1, rollout(atari_transforms(), stack_num=1).state_t_and_tp1
    assert batch.truncated.any() and expected.shape == (17, 2, 4, 84, 84) and 0 < expected.max() <= 1.0
    assert torch.equal(found[:, :, -1], expected[:, :, -1])  # the newest frame
    since = torch.zeros(2)
    # of an episode's first rows the frames that it has; before those EnvPool shows nothing, a stack the first
    for row in range(17):
        since = torch.where(batch.valid[row - 1], since + 1, 0) if row else since
        for env in range(2):
            known = int(min(since[env] + 1, 4))
            assert torch.equal(found[row, env, -known:], expected[row, env, -known:])


def test_an_agent_with_convolutions_learns_from_atari_frames(capsys):
    pytest.importorskip("envpool")
    config = Config.from_default("PPOClip")
    config.update(
        {"batch_size": 32, "seed": 1, "transforms": "atari", "policy_nn_config": "a3c", "shared_body": True}
    )
    config.value_nn_config = {"head": packaged_arch("a3c").head}
    agent = agent_from_config(config, env=GymEnv("Pong-v5", stack_num=1), log_dir=None)
    before = [parameter.clone() for parameter in agent.models.policy.parameters()]
    agent.train(max_iters=2)
    assert agent.models.value.body is agent.models.policy.body and agent.batcher.get_state_info().shape == (
        4,
        84,
        84,
    )
    assert all(
        not torch.equal(mine, its) for mine, its in zip(agent.models.policy.parameters(), before, strict=True)
    )
