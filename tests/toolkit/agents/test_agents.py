"""The toolkit's agents: order of an iteration, exact limits, errors, logs, evaluation, checkpoints, and that
each model learns."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from fastrl.envs import Episode, GymEnv, make_vector_env
from fastrl.errors import CheckpointError, SettingError
from fastrl.toolkit.agents import BaseAgent, PGAgent
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import StateRunNorm
from fastrl.toolkit.models import (
    PPOAdaptiveModel,
    PPOClipModel,
    ValueModel,
    VanillaPGModel,
)
from fastrl.toolkit.optimizers import JointOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.estimators import advantage, value


class TwoSwitches(gym.Env):
    """Pays 1 for each of two switches that is set as the state says; 8 steps."""

    observation_space = gym.spaces.Box(0, 1, (5,), np.float32)
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def _state(self):
        self.wanted = [int(self.np_random.integers(choices)) for choices in (2, 3)]
        state = np.zeros(5, np.float32)
        state[self.wanted[0]] = state[2 + self.wanted[1]] = 1.0
        return state

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self._state(), {}

    def step(self, action):
        reward = float(sum(int(one) == other for one, other in zip(action, self.wanted, strict=True)))
        self.steps += 1
        return self._state(), reward, self.steps == 8, False, {}


@pytest.fixture
def own_id():
    gym.register("TwoSwitches-v0", entry_point=TwoSwitches)
    yield "TwoSwitches-v0"
    del gym.registry["TwoSwitches-v0"]


def network():
    return Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=16), dict(func=nn.Tanh)]))


def make_agent(cls=PPOClipModel, env="Identity-v0", *, with_value=True, transforms=(), opt=None, **settings):
    torch.manual_seed(0)
    batcher = RolloutBatcher(env, 64, num_envs=4, seed=1, transforms=list(transforms))
    policy = cls.from_config(network(), batcher=batcher)
    models = [policy, ValueModel.from_config(network(), batcher=batcher)] if with_value else [policy]
    optimizer = JointOpt(
        models, **(opt or {"num_epochs": 2, "num_mini_batches": 2, "opt_params": {"lr": 0.01}})
    )
    chosen = {"advantage": advantage.CompleteReturn(0.9)} if not with_value else {}
    return PGAgent(
        batcher,
        policy_model=policy,
        value_model=models[1] if with_value else None,
        optimizer=optimizer,
        log_dir=None,
        **chosen | settings,
    )


@pytest.mark.parametrize(
    ("cls", "env"), [(VanillaPGModel, "IdentityContinuous-v0"), (PPOClipModel, "Identity-v0")]
)
def test_models_learn_the_identity(cls, env, capsys):
    """Two of them: that each makes the steps of its trainer is in test_agents_and_trainers.py."""
    epochs, mini_batches = (4, 2) if cls is PPOClipModel else (1, 1)  # nothing holds the other back
    opt = {
        "num_epochs": epochs,
        "num_mini_batches": mini_batches,
        "opt_params": {"lr": 0.01},
        "clip_grad_norm": 0.5,
    }
    agent = make_agent(cls, env, advantage=advantage.GAE(0.0, 0.95), opt=opt)
    before = agent.evaluate(GymEnv(env, seed=5), 8)["eval/return_mean"]
    agent.train(max_steps=16_000, log_freq=1_000)
    after = agent.evaluate(GymEnv(env, seed=5), 8)["eval/return_mean"]
    optimum = 16.0 if env == "Identity-v0" else 0.0
    assert after >= optimum - 0.25 * (optimum - before) and after > before


def test_actions_of_several_branches_are_learned(own_id, capsys):
    agent = make_agent(
        env=own_id,
        opt={"num_epochs": 4, "num_mini_batches": 2, "opt_params": {"lr": 0.01}, "clip_grad_norm": 0.5},
    )
    assert agent.batcher.get_action_info().nvec == (2, 3)
    agent.train(max_steps=6_000, log_freq=1_000)
    assert agent.evaluate(GymEnv(own_id), 4)["eval/return_mean"] >= 14.0  # of 16; chance gets 8 (1/2 + 1/3)


def test_a_policy_plays_the_same_in_policy_units_and_in_the_environments_own():
    agent = make_agent(PPOClipModel, "LinearQuadratic-v0")
    agent.eval_select_action_fn = lambda *, model, state, step: -0.3 * state
    scaled, own = (
        make_vector_env("LinearQuadratic-v0", seed=5, scale_actions=scale) for scale in (True, False)
    )
    played = [agent.evaluate(env, 4) for env in (GymEnv("LinearQuadratic-v0", seed=5), scaled, own)]
    assert played[0] == played[1] == played[2]
    agent.batcher.env = own  # had it been trained there, its actions would be in those units
    with pytest.raises(
        SettingError, match="LinearQuadratic-v0 scales actions from .*, but the policy was trained without"
    ):
        agent.evaluate(scaled, 4)
    state = agent.state_dict()
    agent.batcher.env = scaled
    with pytest.raises(
        CheckpointError,
        match=r"in the environment's own units, but actions of .* are scaled from \[-1, 1\] to \[-2, 2\]",
    ):
        agent.load_state_dict(state)


def test_targets_come_from_advantages_before_they_are_normalised():
    agent = make_agent(normalize_advantages=True)
    rollout = agent.collect()
    raw = agent.advantage(
        rollout | {"state_value_t_and_tp1": agent.models.value.values(rollout.state_t_and_tp1).detach()}
    )
    flat = agent.estimate(rollout)
    valid = rollout.valid
    torch.testing.assert_close(flat.vtarget, (raw + rollout.state_value_t)[valid])
    assert flat.advantage.mean().abs() < 1e-5 and flat.advantage.std(correction=0).item() == pytest.approx(
        1.0, abs=1e-4
    )
    torch.testing.assert_close(
        flat.advantage * raw[valid].std(correction=0) + raw[valid].mean(), raw[valid], rtol=1e-3, atol=1e-4
    )


def test_limits_are_exact_and_count_from_the_beginning(capsys):
    agent = make_agent()
    for limit, iterations in ((1, 1), (3, 3), (3, 3), (0, 3), (5, 5)):
        agent.train(max_iters=limit)
        assert agent.num_iters == iterations
    agent.train(max_steps=agent.num_steps + 1)
    assert agent.num_iters == 6
    agent.train(max_episodes=agent.num_episodes + 1)
    assert agent.num_iters == 7
    for bad in ({}, {"max_iters": -1}, {"max_iters": None}):
        with pytest.raises(SettingError, match="one of max_iters, max_episodes and max_steps must be given"):
            agent.train(**bad)
    with pytest.raises(SettingError, match="max_steps must be a whole number"):
        agent.train(max_steps=1.5)


def test_without_a_value_model_only_complete_returns_will_do(capsys):
    agent = make_agent(VanillaPGModel, with_value=False)
    agent.train(max_iters=2)
    assert "value" not in agent.models
    with pytest.raises(
        SettingError,
        match="value_model must be given, since advantage GAE needs values; CompleteReturn needs none",
    ):
        make_agent(VanillaPGModel, with_value=False, advantage=advantage.GAE())
    with pytest.raises(SettingError, match="optimizer must be given"):
        PGAgent(agent.batcher, policy_model=agent.models.policy)


def test_estimators_are_the_agents_own():
    first, second = make_agent(), make_agent(vtarget=value.TDTarget(0.9))
    assert (first.advantage.gamma, first.advantage.gae_lambda) == (0.99, 0.95)
    assert first.vtarget is not second.vtarget and second.vtarget.gamma == 0.9


def test_acting_makes_no_graph():
    agent = make_agent()
    rollout = agent.collect()
    assert not any(isinstance(entry, torch.Tensor) and entry.requires_grad for entry in rollout.values())
    flat = agent.estimate(rollout)
    assert not flat.vtarget.requires_grad and not flat.advantage.requires_grad


@pytest.mark.parametrize("env", ["Identity-v0", "IdentityContinuous-v0"])
def test_a_rollout_acts_as_select_action_does(env):
    agent = make_agent(env=env)
    states = agent.batcher.env.reset()
    acting = agent.acting()
    for _ in range(2):
        torch.manual_seed(1)
        expected = agent.select_action(states, 0)
        torch.manual_seed(1)
        np.testing.assert_allclose(acting(states, 0).numpy(), expected, rtol=1e-6)
        with torch.no_grad():  # it follows the parameters
            for parameter in agent.models.policy.parameters():
                parameter.add_(0.1)


def test_a_model_that_acts_in_its_own_way_is_asked_in_rollouts_too():
    class Zero(PPOClipModel):
        @staticmethod
        def select_action(model, state, step):
            return np.zeros(len(state), np.int64)

    agent = make_agent(Zero)
    assert int(agent.collect().action.abs().sum()) == 0


class SecondByForward(PPOClipModel):
    def forward(self, x):
        return super().forward(x) + 1e9 * torch.eye(4)[1]


class SecondByDistribution(PPOClipModel):
    def dist_of(self, states):
        return self.create_dist(self(states) + 1e9 * torch.eye(4)[1])


@pytest.mark.parametrize("cls", [SecondByForward, SecondByDistribution])
def test_a_rollout_is_of_the_policy_that_learns(cls):
    assert (make_agent(cls).collect().action == 1).all()


def test_hooks_on_a_policy_are_called_in_rollouts():
    agent = make_agent()
    agent.models.policy.register_forward_hook(lambda model, given, out: out + 1e9 * torch.eye(4)[1])
    assert (agent.collect().action == 1).all()


def test_select_action_of_an_object_is_asked_in_rollouts_too():
    agent = make_agent()
    agent.models.policy.select_action = lambda model, state, step: np.full(len(state), 2)
    assert (agent.collect().action == 2).all()
    agent.select_action = lambda state, step: np.full(len(state), 3)
    assert (agent.collect().action == 3).all()


def test_an_agent_that_acts_in_its_own_way_is_asked_in_rollouts():
    class Third(PGAgent):
        def select_action(self, state, step):
            return np.full(len(state), 2)

    agent = make_agent()
    agent.__class__ = Third
    assert (agent.collect().action == 2).all()


def test_actions_can_be_chosen_from_outside():
    agent = make_agent()
    agent.select_action_fn = lambda model, state, step: np.full(len(state), 2)
    assert (agent.collect().action == 2).all()
    agent.eval_select_action_fn = lambda model, state, step: state.argmax(-1)
    assert agent.evaluate(GymEnv("Identity-v0"), 4)["eval/return_mean"] == 16.0


def test_training_that_is_called_off_is_logged(capsys):
    agent = make_agent()
    agent.models.policy.callbacks["train_start"].append(lambda batch: True)
    before = [parameter.clone() for parameter in agent.models.value.parameters()]
    agent.train(max_iters=1)
    assert all(map(torch.equal, before, agent.models.value.parameters()))


def test_rows_that_are_no_transitions_may_leave_fewer_than_mini_batches(capsys):
    torch.manual_seed(0)
    batcher = RolloutBatcher(
        "Identity-v0", 2, num_envs=1, seed=1
    )  # an odd number of rows an episode, the last of them its reset
    policy, value_model = (
        PPOClipModel.from_config(network(), batcher=batcher),
        ValueModel.from_config(network(), batcher=batcher),
    )
    optimizer = JointOpt([policy, value_model], num_mini_batches=2)
    agent = PGAgent(batcher, policy_model=policy, value_model=value_model, optimizer=optimizer, log_dir=None)
    agent.train(max_episodes=3)
    assert agent.num_steps < 2 * agent.num_iters


def test_a_rollout_without_a_transition_teaches_nothing(capsys):
    torch.manual_seed(0)
    batcher = RolloutBatcher("Identity-v0", 1, num_envs=1, seed=1)
    policy, value_model = (
        PPOAdaptiveModel.from_config(network(), batcher=batcher),
        ValueModel.from_config(network(), batcher=batcher),
    )
    agent = PGAgent(
        batcher,
        policy_model=policy,
        value_model=value_model,
        optimizer=JointOpt([policy, value_model]),
        log_dir=None,
    )
    agent.train(max_episodes=3)
    assert agent.num_steps < agent.num_iters
    assert all(bool(torch.isfinite(parameter).all()) for parameter in policy.parameters())


def test_tables_hold_episodes_models_and_evaluations(capsys):
    agent = make_agent()
    agent.train(max_iters=4, log_freq=2, eval_env=GymEnv("Identity-v0", seed=3), eval_freq=100)
    out = capsys.readouterr().out
    assert out.count("Iter 2 | Episode") == out.count("Iter 4 | Episode") == 1 and "Iter 3" not in out
    for name in (
        "PPOClipModel/Entropy",
        "PPOClipModel/KL Divergence",
        "Env/Reward/Episode (New)",
        "Env/Reward/Evaluation",
    ):
        assert name in out, name


def cells(out, name):
    return [float(line.split("|")[1]) for line in out.splitlines() if line.startswith(f"{name} ")]


def test_episodes_of_a_table_are_those_since_the_last_one_and_none_are_made_up(capsys):
    agent = make_agent(env="Counter-v0")
    agent.batcher.pop_episodes = lambda: []
    agent.train(max_iters=1)
    assert "Env/" not in capsys.readouterr().out
    episodes = iter([[Episode(0, 10.0, 5)], [], [Episode(0, 40.0, 8), Episode(1, 70.0, 8)], []])
    agent.batcher.pop_episodes = lambda: next(episodes)
    agent.train(max_iters=4, log_freq=4)
    out = capsys.readouterr().out
    assert cells(out, "Env/Reward/Episode (New)") == [40.0] and cells(out, "Env/Length/Episode (New)") == [
        7.0
    ]  # of three episodes
    assert cells(out, "Env/Reward/Episode (Last 50)") == [40.0]
    agent.train(max_iters=5, log_freq=1)
    out = capsys.readouterr().out
    assert cells(out, "Env/Reward/Episode (New)") == [] and cells(out, "Env/Reward/Episode (Last 50)") == [
        40.0
    ]


def test_the_latest_episodes_are_saved(tmp_path, capsys):
    agent = make_agent(env="Counter-v0")
    agent.batcher.pop_episodes = lambda: [Episode(0, 10.0, 5), Episode(1, 70.0, 8)]
    agent.train(max_iters=1)
    agent.save(tmp_path)
    other = make_agent(env="Counter-v0")
    other.load(tmp_path)
    other.batcher.pop_episodes = lambda: []
    capsys.readouterr()
    other.train(max_iters=2)
    assert cells(capsys.readouterr().out, "Env/Reward/Episode (Last 50)") == [40.0]


def test_a_run_shorter_than_a_tables_interval_shows_one_at_its_end(capsys, tmp_path):
    agent = make_agent()
    agent.train(max_iters=3, log_freq=100)
    out = capsys.readouterr().out
    assert out.count("Iter ") == out.count("Iter 3 | Episode") == 1 and "PPOClipModel/Entropy" in out


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_only_a_termination_takes_the_value_of_the_last_state_away(end):
    env = make_vector_env("Counter-v0", 4, seed=1, env_kwargs={"end": end})
    agent = make_agent(env=env, vtarget=value.TDTarget(0.9))
    rollout = agent.collect()
    flat = agent.estimate(rollout)
    ended, valid = rollout.done, rollout.valid
    following = agent.models.value.values(rollout.state_t_and_tp1)[1:].detach()
    expected = rollout.reward + 0.9 * (following if end == "truncated" else following * ~ended)
    torch.testing.assert_close(flat.vtarget, expected[valid])
    assert (
        ended.any() and torch.equal(rollout[end], ended) and (rollout.state_tp1[ended] == 8).all()
    )  # the true last state, not a first one


def test_evaluation_moves_no_statistics(capsys):
    agent = make_agent(env="CartPole-v1", transforms=[StateRunNorm()])
    agent.train(max_iters=2)
    before = agent.batcher.transforms[0].normalizer.statistics()
    agent.evaluate(GymEnv("CartPole-v1"), 3)
    after = agent.batcher.transforms[0].normalizer.statistics()
    assert before[2] == after[2] == agent.num_steps and np.array_equal(before[0], after[0])


@pytest.mark.parametrize("cls", [PPOClipModel, PPOAdaptiveModel])
def test_an_agent_goes_on_exactly_from_its_checkpoint(cls, tmp_path, capsys):
    whole, first, second = (
        make_agent(cls, "ProofofMemory-v0", transforms=[StateRunNorm()]) for _ in range(3)
    )
    torch.manual_seed(3)
    whole.train(max_iters=6)
    torch.manual_seed(3)
    first.train(max_iters=3)
    first.save(tmp_path)
    second.load(tmp_path)
    second.train(max_iters=6)
    for name, model in whole.models.items():
        for mine, its in zip(
            second.models[name].state_dict().values(), model.state_dict().values(), strict=True
        ):
            assert torch.equal(mine, its)
    assert (second.num_steps, second.num_iters, second.num_episodes) == (
        whole.num_steps,
        whole.num_iters,
        whole.num_episodes,
    )


def test_agents_of_ones_own_say_what_a_step_is(capsys):
    class Counting(BaseAgent):
        def step(self):
            self.batcher.get_batch(lambda state, step: torch.zeros(len(state), dtype=torch.int64))

    agent = make_agent()
    own = Counting(agent.batcher, SingleOpt(agent.models.policy), log_dir=None)
    own._register_model("policy", agent.models.policy)
    own.train(max_iters=2)
    assert own.num_iters == 2 and own.num_steps > 100
    with pytest.raises(TypeError):
        BaseAgent(agent.batcher, agent.opt)
