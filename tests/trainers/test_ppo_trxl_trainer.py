"""PPO-TrXL end to end: each defect of published code has the test that would catch it, and the loop's
promises hold."""

import copy
import hashlib
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.data.memory_bank import BankReader
from fastrl.envs import make_vector_env
from fastrl.envs.single import SingleEnv
from fastrl.errors import CheckpointError, NonFiniteError, SettingError
from fastrl.machine import in_words
from fastrl.runs.seeding import derived_seed
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer, TrXLAgent

CPU = torch.device("cpu")
SETTINGS = {
    "seed": 3,
    "device": CPU,
    "num_envs": 4,
    "num_steps": 16,
    "num_minibatches": 2,
    "update_epochs": 2,
    "init_lr": 1e-3,
    "final_lr": 1e-4,
    "anneal_steps": 10_000,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "norm_adv": True,
    "clip_coef": 0.2,
    "clip_vloss": True,
    "init_ent_coef": 0.01,
    "final_ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "target_kl": None,
    "trxl_num_layers": 2,
    "trxl_num_heads": 2,
    "trxl_dim": 8,
    "trxl_memory_length": 4,
    "trxl_positional_encoding": "absolute",
    "reconstruction_coef": 0.0,
    "threads": 1,
}


def make_trainer(env_id="Counter-v0", **settings):
    if (
        env_id == "Counter-v0"
    ):  # episodes of several lengths: shorter than the window, as long, longer, and longer than a rollout
        settings = {"env_kwargs": {"length": 9, "end": "truncated"}, "max_episode_steps": 30} | settings
    return PPOTrXLTrainer(env_id=env_id, **SETTINGS | settings)


def counters(lengths, end="terminated"):
    """A factory of environments that end after so many steps."""
    return lambda: make_vector_env(
        "Counter-v0", len(lengths), seed=3, env_kwargs={"length": lengths, "end": end}, max_episode_steps=40
    )


def one_round(trainer):
    assert trainer.collect()
    trainer.estimate()
    return trainer.learn()


def weights_hash(trainer):
    digest = hashlib.sha256()
    for name, value in sorted(trainer.learner.agent.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


class Shadow:
    """The documented modules stepped by hand: windows are built as tensors, from lists of what each episode's
    steps left behind."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.window = trainer.config.trxl_memory_length
        self.past = [
            [] for _ in range(trainer.env.num_envs)
        ]  # per environment: [L, D] of each step of the episode

    def row(self, obs, actions):
        """(log-probabilities, values) of one row of all environments; remembers what the row leaves
        behind."""
        agent = self.trainer.learner.agent
        layers, dim = agent.transformer.num_layers, agent.transformer.dim
        mask = torch.zeros(len(self.past), self.window, dtype=torch.bool)
        indices = torch.zeros(len(self.past), self.window, dtype=torch.int64)
        memory = torch.full(
            (len(self.past), self.window, layers, dim), 7.0
        )  # what is not seen may be anything
        for env, past in enumerate(self.past):
            steps = range(max(len(past) - self.window, 0), len(past))
            for place, step in enumerate(steps):
                mask[env, place], indices[env, place], memory[env, place] = True, step, past[step]
        with torch.no_grad():
            _, log_probs, _, values, self.left = agent.get_action_and_value(
                obs, memory, mask, indices, action=actions
            )
            torch.testing.assert_close(agent.get_value(obs, memory, mask, indices), values)
        return log_probs, values

    def after(self, valid, begins):
        """What was left behind belongs to the episode if the row was a transition; where a new episode begins
        nothing is remembered."""
        for env in range(len(self.past)):
            if valid[env]:
                self.past[env].append(self.left[env])
            if begins[env]:
                self.past[env] = []


VARIANTS = [
    {},
    {"trxl_num_heads": 1},
    {"trxl_positional_encoding": "learned"},
    {"trxl_positional_encoding": "relative", "trxl_gating": "gru"},
    {"trxl_positional_encoding": "none", "shared_head_projection": True},
    {"trxl_positional_encoding": "relative", "endless": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", [[3, 4, 5, 30], [16, 8, 1, 2]])
def test_acting_learning_and_the_documented_modules_agree(variant, lengths):
    """On every row, resets included, over three rollouts whose weights differ; so the first ratios of an
    update are 1."""
    require_agreement(counters(lengths), **variant)


class AllAtOnce(gym.vector.SyncVectorEnv):
    """As an asynchronous one: fastrl does not step its environments one by one."""


@pytest.mark.parametrize("variant", [{}, {"trxl_num_heads": 1}], ids=str)
@pytest.mark.parametrize("mode", gym.vector.AutoresetMode)
def test_they_agree_where_rows_are_held_while_others_are_reset(mode, variant):
    """SAME_STEP and DISABLED: a held row is no transition, though its episode goes on; it must not push the
    oldest step out of memory."""

    def factory():
        return AllAtOnce(
            [lambda n=n: SingleEnv("Counter-v0", length=n) for n in (3, 4, 11, 30)], autoreset_mode=mode
        )

    require_agreement(factory, endless=True, trxl_positional_encoding="relative", **variant)


def require_agreement(factory, **variant):
    with make_trainer(factory, **variant) as trainer:
        shadow = Shadow(trainer)
        ended = np.zeros(4, bool)
        for _ in range(3):
            trainer.collect()
            rollout = trainer.rollout
            for t in range(16):
                log_probs, values = shadow.row(rollout.obs[t], rollout.actions[t, :, None])
                torch.testing.assert_close(rollout.extras["log_probs"][t], log_probs, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(rollout.extras["values"][t], values, atol=1e-5, rtol=1e-5)
                shadow.after(rollout.valid[t].tolist(), ended)
                ended = (rollout.terminated[t] | rollout.truncated[t]).numpy()
            _, following = shadow.row(rollout.obs[16], rollout.actions[15, :, None])
            torch.testing.assert_close(trainer.bootstrap_values, following, atol=1e-5, rtol=1e-5)

            trainer.estimate()
            reader = BankReader(trainer.learner.agent.transformer, trainer.bank)
            rows = trainer.rows
            maps = trainer.learner.agent.transformer.maps()
            policy, values, _, _ = trainer.learner.agent.read(
                rows.obs, reader.banks(None), reader.window(rows.env, rows.slot, rows.position, None), maps
            )

            torch.testing.assert_close(policy.log_prob(rows.actions), rows.log_probs, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(values, rows.values, atol=1e-5, rtol=1e-5)
            # what was left behind under these weights stays, and mixes with what the next ones leave
            trainer.learn()


def test_the_bootstrap_value_is_bit_for_bit_what_acting_returns_on_that_row():
    """With windows that are full (p ≥ W), not yet full, and on a row that shows a last observation."""
    with make_trainer(counters([30, 2, 16, 5])) as trainer:
        for _ in range(3):
            trainer.collect()
            bootstrap = trainer.bootstrap_values.clone()
            # the same weights: the next rollout's first row is the one that was bootstrapped from
            trainer.collect()
            assert torch.equal(trainer.rollout.extras["values"][0], bootstrap)


def test_a_truncated_episode_bootstraps_and_a_terminated_one_does_not():
    for end, bootstraps in (("truncated", True), ("terminated", False)):
        with make_trainer(env_kwargs={"length": 3, "end": end}, gae_lambda=1.0, num_minibatches=1) as trainer:
            trainer.collect()
            trainer.estimate()
            values = trainer.rollout.extras["values"]
            # the counter's rewards are 0, 1, 2; row 3 shows the last observation
            expected = (
                0.9 * 1 + 0.81 * 2 + (0.9**3 * values[3, 0] if bootstraps else 0.0)
            )
            torch.testing.assert_close(
                trainer.rows.returns[0], expected if bootstraps else torch.tensor(expected)
            )


def test_rows_that_are_no_transition_are_in_no_loss_and_no_memory():
    with make_trainer(counters([3, 3, 3, 3])) as trainer:
        for _ in range(2):
            trainer.collect()
            trainer.estimate()
        rows, bank = trainer.rows, trainer.bank
        assert (
            len(rows) == int(trainer.rollout.valid.sum()) == 4 * 12
        )  # every fourth row shows a last observation
        assert (rows.obs < 3).all()  # and a last observation reads 3
        before = float(
            trainer.learner.loss(rows, BankReader(trainer.learner.agent.transformer, bank), None, 0.01)[0]
        )
        window = bank.window(rows.env, rows.slot, rows.position)
        visible = torch.zeros(bank.positions.shape, dtype=torch.bool)
        for env, index, mask in zip(window.episode, window.index, window.mask, strict=True):
            visible[env, index[mask]] = True
        assert (bank.positions[visible] < 3).all()
        bank.tokens[:, ~visible] = 1e9  # everything else may be anything
        after = float(
            trainer.learner.loss(rows, BankReader(trainer.learner.agent.transformer, bank), None, 0.01)[0]
        )
        assert before == after


def test_minibatches_of_environments_cover_every_row_once_and_give_the_same_loss():
    with make_trainer(counters([3, 30, 5, 8]), minibatches="environments") as trainer:
        trainer.collect()
        trainer.estimate()
        reader = BankReader(trainer.learner.agent.transformer, trainer.bank)
        seen = []
        for index, envs in trainer.learner._minibatches(trainer.rows, trainer.bank):
            rows = trainer.rows.at(index)
            assert set(rows.env.tolist()) <= set(envs.tolist())
            by_some, by_all = (trainer.learner.loss(rows, reader, chosen, 0.01)[0] for chosen in (envs, None))
            torch.testing.assert_close(by_some, by_all)
            seen += index.tolist()
        assert sorted(seen) == list(range(len(trainer.rows)))


def test_an_update_from_learned_positions_moves_them():
    with make_trainer("ProofofMemory-v0", trxl_positional_encoding="learned") as trainer:
        before = trainer.learner.agent.transformer.position_table.detach().clone()
        one_round(trainer)
        assert not torch.equal(before, trainer.learner.agent.transformer.position_table)


@pytest.mark.parametrize(
    "settings", [{}, {"minibatches": "environments", "seed": 1}, {"memory_refresh": "rollout"}], ids=str
)
def test_it_learns_what_no_memoryless_policy_can(settings, tmp_path):
    """ProofofMemory: optimum 1.2, −0.28 without memory."""
    chosen = {
        "num_envs": 16,
        "num_steps": 64,
        "num_minibatches": 8,
        "update_epochs": 4,
        "trxl_dim": 32,
        "trxl_memory_length": 16,
    }
    with make_trainer(
        "ProofofMemory-v0",
        **SETTINGS | chosen | {"gamma": 0.99, "gae_lambda": 0.95, "trxl_num_heads": 1} | settings,
    ) as trainer:
        trainer.train(total_steps=25_000, out_dir=str(tmp_path))
        assert trainer.evaluate(64)["eval/return_mean"] > 1.0


def test_refreshed_memory_is_what_the_present_weights_would_have_left():
    """As long as all steps that were seen are still there; in a ring of W they are for as long as the episode
    is no longer than W."""
    with make_trainer(
        counters([30, 30, 12, 9]), trxl_memory_length=12, num_steps=8, memory_refresh="rollout"
    ) as trainer:
        one_round(trainer)
        trainer._start_rollout()
        position = trainer.acting.memory.clock.position.clone()
        assert position.tolist() == [8, 8, 8, 8]
        tokens, _ = trainer.bank.recent()
        shadow = Shadow(trainer)
        for t in range(8):
            shadow.row(trainer.rollout.obs[t], trainer.rollout.actions[t, :, None])
            shadow.after([True] * 4, [False] * 4)
        left = torch.stack([torch.stack(past) for past in shadow.past]).permute(2, 0, 1, 3)  # [L, N, 8, D]
        stored = trainer.learner.agent.transformer.stored(left, torch.arange(8).expand(4, 8))
        torch.testing.assert_close(tokens[:, :, 4:], stored, atol=1e-5, rtol=1e-5)


# -------------------------------------------------------------------------------------------- spaces


class Unlimited(gym.Env):
    """No time limit that anybody could know of."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}


class Pictures(gym.Env):
    """Random pictures, and two branches of actions."""

    observation_space = gym.spaces.Box(0, 255, (84, 84, 3), np.uint8)
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def __init__(self):
        self.spec = None
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.integers(0, 256, (84, 84, 3), dtype=np.uint8), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action))
        self.steps += 1
        return (
            self.np_random.integers(0, 256, (84, 84, 3), dtype=np.uint8),
            float(action[0] == 2),
            self.steps == 5,
            False,
            {},
        )


def test_pictures_branches_and_reconstruction():
    settings = {
        "reconstruction_coef": 0.1,
        "max_episode_steps": 6,
        "num_envs": 2,
        "num_steps": 8,
        "target_kl": 10.0,
    }
    with make_trainer(Pictures, **settings) as trainer:
        metrics = one_round(trainer)
        assert 0 < metrics["loss/reconstruction"] and metrics["train/epochs"] == 2
        assert trainer.rollout.extras["log_probs"].shape == (8, 2, 2)
        agent = trainer.learner.agent
        with pytest.raises(RuntimeError, match="call get_action_and_value first"):
            agent.reconstruct_observation()
        obs, nothing = trainer.collector.obs, torch.zeros(2, 4, dtype=torch.bool)
        action, log_prob, entropy, value, memory = agent.get_action_and_value(
            obs, torch.zeros(2, 4, 2, 8), nothing, nothing.long()
        )
        assert (
            action.shape == log_prob.shape == (2, 2)
            and entropy.shape == value.shape == (2,)
            and memory.shape == (2, 2, 8)
        )
        seen = agent.reconstruct_observation()
        assert seen.shape == obs.shape and 0 <= seen.min() and seen.max() <= 1
        assert trainer.evaluate(2)["eval/length_mean"] == 5


class Choices(gym.Env):
    """Takes the actions of one space, and nothing else."""

    observation_space = gym.spaces.Box(-1, 1, (2,))

    def __init__(self, action_space):
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 5, False, {}


@pytest.mark.parametrize(
    "space",
    [
        gym.spaces.Discrete(3, start=2),
        gym.spaces.MultiDiscrete([3]),
        gym.spaces.MultiDiscrete([3, 2]),
        gym.spaces.MultiBinary(1),
        gym.spaces.Box(0, 3, (1,), np.int32),
        gym.spaces.Box(-1, 1, (1,)),
        gym.spaces.Box(-1, 1, ()),
    ],
    ids=str,
)
def test_every_action_space_gets_actions_of_its_own_shape(space):
    """One branch is not always one choice without an axis."""
    with make_trainer(lambda: Choices(space), max_episode_steps=5) as trainer:
        one_round(trainer)
        assert trainer.evaluate(2)["eval/length_mean"] == 5


def test_an_agent_without_decoder_does_not_reconstruct():
    space = gym.spaces.Dict({"a": gym.spaces.Box(-1, 1, (2,)), "b": gym.spaces.Discrete(3)})
    sizes = {
        "trxl_num_layers": 1,
        "trxl_num_heads": 1,
        "trxl_dim": 4,
        "trxl_positional_encoding": "none",
        "max_episode_steps": 5,
    }
    agent = TrXLAgent(space, (2,), **sizes, reconstruction_coef=0.0)
    nothing = torch.zeros(3, 2, dtype=torch.bool)
    agent.get_action_and_value(
        torch.zeros(3, 5), torch.zeros(3, 2, 1, 4), nothing, nothing.long(), deterministic=True
    )
    with pytest.raises(RuntimeError, match="no decoder"):
        agent.reconstruct_observation()
    with pytest.raises(ValueError, match=r"x must have shape \['B', 5\]"):
        agent._encode(torch.zeros(3, 4))
    with pytest.raises(SettingError, match="action_space_shape"):
        TrXLAgent(space, (), **sizes, reconstruction_coef=0.0)


def test_continuous_actions_have_one_ratio(tmp_path):
    chosen = {
        "num_envs": 16,
        "num_steps": 32,
        "update_epochs": 10,
        "init_lr": 3e-3,
        "gamma": 0.0,
        "trxl_memory_length": 2,
    }
    with make_trainer("IdentityContinuous-v0", **chosen) as trainer:
        before = trainer.evaluate(16)["eval/return_mean"]
        trainer.train(total_steps=20_000, out_dir=str(tmp_path))
        assert trainer.rollout.extras["log_probs"].shape == (32, 16, 1)
        assert trainer.evaluate(16)["eval/return_mean"] > 0.2 * before


SIZES = {
    "trxl_num_layers": 1,
    "trxl_num_heads": 1,
    "trxl_dim": 8,
    "trxl_positional_encoding": "none",
    "max_episode_steps": 5,
}


def look(agent, obs):
    """The modules on observations that have nothing in memory."""
    nothing = torch.zeros(len(obs), 2, dtype=torch.bool)
    return agent.get_action_and_value(obs, torch.zeros(len(obs), 2, 1, 8), nothing, nothing.long())


@pytest.mark.parametrize("coefficient", [0.0, 0.1])
def test_an_agent_that_has_looked_can_be_copied_and_pickled(coefficient):
    agent = TrXLAgent(gym.spaces.Box(-1, 1, (3,)), (2,), **SIZES, reconstruction_coef=coefficient)
    look(agent, torch.zeros(2, 3))  # with gradients, so that the hidden state has a graph
    assert (agent._last_hidden is None) == (coefficient == 0)
    for copied in (copy.deepcopy(agent), pickle.loads(pickle.dumps(agent))):
        assert copied._last_hidden is None
        assert all(
            torch.equal(one, other)
            for one, other in zip(copied.parameters(), agent.parameters(), strict=True)
        )


def test_an_agent_that_has_counted_nothing_tells_large_numbers_apart():
    agent = TrXLAgent(gym.spaces.Box(-1000, 1000, (2,)), (3,), **SIZES, reconstruction_coef=0.0)
    assert not torch.equal(agent.encode(torch.full((1, 2), 15.0)), agent.encode(torch.full((1, 2), 500.0)))


def test_reconstruction_is_learned_normalised_and_shown_raw():
    """Otherwise one large number drowns the others, and the policy."""
    settings = {
        "reconstruction_coef": 0.1,
        "normalize_observation": True,
        "num_minibatches": 1,
        "update_epochs": 1,
        "init_lr": 0.0,
    }
    with make_trainer(counters([30, 25, 20, 15]), **settings, final_lr=0.0) as trainer:
        one_round(trainer)
        agent, normalizer = trainer.learner.agent, trainer.learner.agent.obs_normalizer
        normalizer.set_statistics(torch.tensor([1e4]), torch.tensor([1e6]), count=100)
        torch.nn.init.zeros_(agent.decoder.layer.weight)  # decodes 0: the mean
        torch.nn.init.zeros_(agent.decoder.layer.bias)
        metrics = one_round(trainer)
        torch.testing.assert_close(
            metrics["loss/reconstruction"], ((trainer.rows.obs - 1e4) / 1e3).clamp(-10, 10).square().mean()
        )
        nothing = torch.zeros(4, 4, dtype=torch.bool)
        normalizer.set_statistics(torch.tensor([1e4]), torch.tensor([1e6]), count=100)
        agent.get_action_and_value(trainer.collector.obs, torch.zeros(4, 4, 2, 8), nothing, nothing.long())
        torch.testing.assert_close(agent.reconstruct_observation(), torch.full((4, 1), 1e4))


class SmallPictures(Pictures):
    """Too small for convolutions, and no symbols."""

    observation_space = gym.spaces.Box(0, 255, (7, 7, 3), np.uint8)

    def reset(self, *, seed=None, options=None):
        return super().reset(seed=seed)[0][:7, :7], {}

    def step(self, action):
        obs, *others = super().step(action)
        return obs[:7, :7], *others


def test_small_pictures_are_refused():
    with (
        make_trainer(SmallPictures, max_episode_steps=6) as trainer,
        pytest.raises(SettingError, match="taken for a grid of symbols"),
    ):
        trainer.collect()


class Broken(Unlimited):
    """Its observations are numbers for three steps."""

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return super().reset()

    def step(self, action):
        self.steps += 1
        obs, *others = super().step(action)
        return obs * (np.nan if self.steps > 3 else 1), *others


def test_an_observation_that_is_nan_ends_an_evaluation():
    with (
        make_trainer(Broken, max_episode_steps=9) as trainer,
        pytest.raises(NonFiniteError, match="environment 0 of Broken .* evaluation"),
    ):
        trainer.evaluate(2)


@pytest.mark.parametrize("encoding", ["absolute", "learned", "relative", "none"])
def test_refreshing_the_memory_of_no_layers(encoding):
    with make_trainer(
        trxl_num_layers=0, memory_refresh="rollout", trxl_positional_encoding=encoding
    ) as trainer:
        one_round(trainer)
        one_round(trainer)
        assert trainer.updates == 2 and all(
            bool(torch.isfinite(p).all()) for p in trainer.learner.agent.parameters()
        )


def test_everything_large_is_counted_before_it_is_taken():
    """Rollout, bank (for refreshed memory with observations), ring."""
    with make_trainer(
        memory_refresh="rollout", trxl_positional_encoding="relative", normalize_observation=True
    ) as trainer:
        ring = 2 * 2 * (4 * 4 + 1) * 8 * 4  # keys and values: L (N W + 1) D numbers
        parts = {
            "memory bank": trainer.bank.nbytes,
            "acting": ring,
        }
        for name, size in parts.items():
            assert f"{name} {in_words(size)}" in trainer.describe()


def test_minigrid_and_a_policy_without_memory():
    with make_trainer(
        "MiniGrid-MemoryS7-v0", env_kwargs={"crop": 3}, trxl_memory_length=0, trxl_num_layers=1
    ) as trainer:
        assert trainer.env.obs_shape == (3, 3, 3)
        one_round(trainer)


# ------------------------------------------------------------------------------- the loop's promises


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path):
    hashes = []
    for index, seed in enumerate((5, 5, 6)):
        with make_trainer("ProofofMemory-v0", seed=seed) as trainer:
            trainer.train(total_steps=300, out_dir=str(tmp_path / str(index)))
            hashes.append(weights_hash(trainer))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("variant", [{}, {"trxl_num_heads": 1}, {"memory_refresh": "rollout"}], ids=str)
def test_two_halves_with_a_checkpoint_between_equal_one_run(variant, tmp_path):
    with make_trainer("ProofofMemory-v0", **variant) as whole:
        whole.train(total_steps=400, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "whole"))
    with make_trainer("ProofofMemory-v0", **variant) as first:
        first.train(total_steps=200, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "halves"))
    with make_trainer("ProofofMemory-v0", **variant) as second:
        second.load(tmp_path / "halves")
        second.train(total_steps=400, eval_interval=100, save_interval=0, out_dir=str(tmp_path / "halves"))
    assert (tmp_path / "whole" / "eval.csv").read_text().count("\n") > 2
    assert weights_hash(second) == weights_hash(whole)
    assert (second.env_steps, second.updates, second.episodes) == (
        whole.env_steps,
        whole.updates,
        whole.episodes,
    )


@pytest.mark.parametrize("num_envs", [1, 4])
def test_a_half_collected_rollout_goes_on_where_it_stopped_bit_for_bit(num_envs, tmp_path, monkeypatch):
    """Also with one environment, where a product over one slot and one over all slots are rounded
    differently."""
    sizes = {"num_envs": num_envs, "trxl_dim": 64, "trxl_num_heads": 4, "trxl_memory_length": 8}
    with make_trainer("ProofofMemory-v0", **sizes) as whole:
        one_round(whole)
        one_round(whole)
    with make_trainer("ProofofMemory-v0", **sizes) as first:
        one_round(first)
        stop = iter([False] * 7 + [True])
        monkeypatch.setattr(first, "stop_requested", lambda: next(stop))
        assert not first.collect() and first.rollout.position == 7
        first.save(tmp_path)
    with make_trainer("ProofofMemory-v0", **sizes) as second:
        second.load(tmp_path)
        one_round(second)
    assert weights_hash(second) == weights_hash(whole)


def test_evaluations_of_a_run_have_the_run_s_own_seed(tmp_path, monkeypatch):
    """And not one seed for all runs, which is that of training itself in the run with this seed."""
    with make_trainer("ProofofMemory-v0", seed=42) as trainer:
        seeds, make_env = [], trainer.make_env
        monkeypatch.setattr(
            trainer, "make_env", lambda number, seed: seeds.append(seed) or make_env(number, seed)
        )
        trainer.train(total_steps=64, out_dir=str(tmp_path))
        trainer.evaluate(2)
        trainer.evaluate(2, seed=5)
    assert seeds == [derived_seed(42, "evaluation"), 42, 5]


def test_another_network_cannot_be_loaded(tmp_path):
    with make_trainer() as trainer, make_trainer(trxl_dim=16) as other:
        trainer.save(tmp_path)
        with pytest.raises(CheckpointError, match="other settings"):
            other.load(tmp_path)


def test_learning_rate_and_entropy_go_from_init_to_final():
    with make_trainer(anneal_steps=100) as trainer:
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-3) and metrics[
            "train/ent_coef"
        ] == pytest.approx(0.01)
        steps = trainer.env_steps
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-3 - 9e-4 * steps / 100)
        metrics = one_round(trainer)
        assert metrics["train/learning_rate"] == pytest.approx(1e-4) and metrics["train/ent_coef"] == 0


def test_target_kl_ends_an_update_early():
    with make_trainer("ProofofMemory-v0", target_kl=1e-9, update_epochs=5) as trainer:
        assert one_round(trainer)["train/epochs"] == 1


def test_an_episode_longer_than_the_positions_stops_the_run():
    with make_trainer(counters([30, 30, 30, 30])) as trainer:
        trainer.learner.agent.transformer.max_episode_steps = 10
        trainer.acting.memory.clock.limit = 10
        with pytest.raises(SettingError, match="max_episode_steps is 10"):
            trainer.collect()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trxl_dim": 9, "trxl_num_heads": 3}, "trxl_dim must be even"),
        ({"trxl_dim": 10, "trxl_num_heads": 4}, "trxl_num_heads must divide trxl_dim"),
        ({"trxl_positional_encoding": "rotary"}, "trxl_positional_encoding must be"),
        (
            {"trxl_memory_length": 31},
            "trxl_memory_length must be at most the longest episode, 30 steps, got 31",
        ),
        ({"num_minibatches": 5}, "num_minibatches must divide num_envs × num_steps = 64, got 5"),
        ({"num_minibatches": 8, "minibatches": "environments"}, "num_minibatches must divide num_envs = 4"),
        (
            {"env_id": Unlimited, "env_kwargs": None, "max_episode_steps": None},
            "max_episode_steps must be given",
        ),
        ({"endless": True}, "trxl_positional_encoding must be relative or none"),
        ({"minibatches": "row"}, "minibatches must be rows or environments.*did you mean"),
        ({"clip_coef": 0.0}, "clip_coef must be finite and above 0"),
        ({"trxl_gating": "lstm"}, "trxl_gating must be"),
        ({"capture_video": True}, "capture_video needs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_setting_is_named(settings, words):
    with pytest.raises(SettingError, match=words):
        make_trainer(**settings).close()


def test_the_longest_episode_of_a_gymnasium_environment():
    with make_trainer(
        max_episode_steps=None,
        env_kwargs={"length": 9},
        trxl_memory_length=0,
        endless=True,
        trxl_positional_encoding="none",
    ) as trainer:
        assert trainer._resolve_max_episode_steps(gym.make("CartPole-v1")) == 500
        with pytest.raises(SettingError, match="max_episode_steps must be given"):
            trainer._resolve_max_episode_steps(Unlimited())
        env = Unlimited()
        env.max_steps = 77
        assert trainer._resolve_max_episode_steps(env) == 77


class ToldLate(Unlimited):
    """Knows its limit from its first reset on."""

    def reset(self, *, seed=None, options=None):
        self.max_episode_steps = 7
        return super().reset(seed=seed)


def test_a_limit_that_is_told_after_a_reset_counts():
    with make_trainer(ToldLate) as trainer:
        assert trainer.max_episode_steps == 7


def test_the_limit_of_a_vector_environment_that_tells_none_may_be_given():
    def factory():
        return AllAtOnce([lambda: SingleEnv("Counter-v0", length=5)] * 4)

    with make_trainer(factory, max_episode_steps=6) as trainer:
        assert trainer.max_episode_steps == 6
        one_round(trainer)
        assert trainer.evaluate(4)["eval/length_mean"] == 5
    with pytest.raises(SettingError, match="max_episode_steps must be given"):
        make_trainer(factory)
    with (
        make_trainer(factory, max_episode_steps=4) as trainer,
        pytest.raises(SettingError, match="max_episode_steps is 4, but environment"),
    ):
        trainer.collect()
    with pytest.raises(
        SettingError, match="max_episode_steps is 30, but Counter-v0 is already made, with a limit of 40"
    ):
        make_trainer(counters([3, 4, 5, 6]), max_episode_steps=30)


@pytest.mark.parametrize("env_id", ["Counter-v0", lambda length: SingleEnv("Counter-v0", length=length)])
@pytest.mark.parametrize("length", [7, 30])
def test_environments_for_evaluating_by_hand_are_those_of_training(env_id, length):
    with make_trainer(env_id, env_kwargs={"length": length}, max_episode_steps=9) as trainer:
        env = trainer._get_eval_env(5)
        ends = [any(env.step(0)[2:4]) for _ in range(min(length, 9))]
    assert ends.index(True) == len(ends) - 1


def test_the_evaluation_environment_is_made_once_and_kept():
    with make_trainer("CartPole-v1", max_episode_steps=None, trxl_memory_length=4) as trainer:
        env = trainer._get_eval_env(5)
        assert trainer._get_eval_env(6) is env
        first, _ = trainer._make_env(seed=5, env_index=1, record_video=True).reset(seed=6)
        second, _ = env.reset(seed=6)
        assert np.array_equal(first, second)
        trainer._close_env(None)


def test_closing_hides_no_error():
    class Broken(Unlimited):
        def close(self):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        PPOTrXLTrainer._close_env(Broken())


def test_presets_and_configuration_fit_the_trainer():
    config = PPOTrXLConfig(
        env_id="ProofofMemory-v0",
        num_envs=4,
        num_steps=8,
        num_minibatches=4,
        trxl_memory_length=16,
        trxl_dim=8,
    )
    config.check()
    with PPOTrXLTrainer.from_config(config) as trainer:
        assert trainer.config.num_steps == 8 and trainer.config is config


def test_an_episode_is_recorded_after_an_evaluation(tmp_path):
    pytest.importorskip("moviepy", reason="capture_video needs moviepy: pip install 'fastrl[video]'")
    pytest.importorskip("pygame", reason="CartPole is drawn by pygame: pip install 'fastrl[video]'")
    with make_trainer("CartPole-v1", max_episode_steps=20, capture_video=True, run_name="cart") as trainer:
        trainer.train(total_steps=64, eval_interval=0, save_interval=0, out_dir=str(tmp_path))
    videos = list((tmp_path / "videos").glob("cart-*.mp4"))
    assert len(videos) == 1 and videos[0].stat().st_size > 500
