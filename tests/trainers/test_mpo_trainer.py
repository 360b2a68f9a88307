"""MPO training end to end on environments with known answers: the loop's promises rather than its
internals."""

import csv
import hashlib
import inspect
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastrl.envs.action_spec import ActionSpec
from fastrl.envs.toys import TOYS, LinearQuadratic, ToyDynamics
from fastrl.envs.toys.gymnasium import ToyVectorGym
from fastrl.errors import CheckpointError, NonFiniteError, SettingError
from fastrl.trainers.mpo.config import MPOConfig
from fastrl.trainers.mpo.trainer import MPOTrainer, _evaluate_vectorized

CPU = torch.device("cpu")
TRAIN = {"update_after": 100, "batch_size": 32}


def make_trainer(env_id="IdentityContinuous-v0", **settings):
    settings = {
        "seed": 3,
        "policy_layer_sizes": (16,),
        "critic_layer_sizes": (16,),
        "replay_size": 4_000,
        "num_envs": 4,
        "samples_per_insert": 8.0,
        "action_samples": 8,
        "threads": 1,
    } | settings
    return MPOTrainer(env_id, device=CPU, **settings)


def weights_hash(trainer):
    digest = hashlib.sha256()
    for part in (
        trainer.learner.policy,
        trainer.learner.critics,
        trainer.learner.target_critics,
        trainer.learner.alphas,
    ):
        for name, value in sorted(part.state_dict().items()):
            digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def rows_of(path):
    with open(path, newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


# -------------------------------------------------------------------------------------- known optima

LEARNING = {
    "policy_layer_sizes": (32, 32),
    "critic_layer_sizes": (32, 32),
    "num_envs": 8,
    "policy_lr": 1e-3,
    "q_lr": 3e-3,
    "mstep_kl_epsilon": 0.05,
    "log_std_init": np.log(
        0.2
    ),  # narrow: where raw actions are clipped, the best mean is not the best action
    # and it stays so wide that differences of Q between samples are above the critic's noise
    "mstep_kl_epsilon_std": 1e-5,
    "init_log_alpha_stddev": 100.0,
    "lambda_lr": 3e-2,
    "temperature_init": 0.3,
    "temperature_lr": 1e-3,
    "target_networks_update_period": 50,
    "max_grad_norm": 40.0,
    "samples_per_insert": 32.0,
    "action_samples": 20,
}


class _Bandit(ToyDynamics):
    """One state, one action, reward −(a − 0.4)²."""

    obs_size = 1

    def __init__(self, seeds):
        super().__init__(seeds, max_episode_steps=16)
        self.action = ActionSpec("continuous", (1,), (), torch.tensor([-1.0]), torch.tensor([1.0]))

    def _begin(self, columns):
        pass

    def _move(self, actions, columns):
        return -np.square(actions.astype(np.float64)[:, 0] - 0.4), np.zeros(self.num_envs, bool)

    def observe(self):
        return np.ones((self.num_envs, 1), np.float32)


def train_with_history(trainer, env_steps, measure):
    """`history_of` with the trainer's own threads and generators."""
    with trainer.session():
        return history_of(trainer, env_steps, measure)


def history_of(trainer, env_steps, measure):
    """Every update's KLs relative to their bounds, the temperatures, and the mean of `measure()` over the
    last fifth of the way.

    Learning rates fall to a tenth on the last third: what is left is bias, not the noise of the last updates.
    """
    trainer._set_updates(500, 128, None)
    kls, temperatures, measured = [], [], []
    falls = [
        (trainer.learner.policy_optimizer, LEARNING["policy_lr"] / 10),
        (trainer.learner.critic_optimizer, LEARNING["q_lr"] / 10),
    ]
    while trainer.env_steps < env_steps:
        if trainer.env_steps > 2 * env_steps / 3:
            for optimizer, lr in falls:
                optimizer.param_groups[0]["lr"] = lr
        trainer.collect()
        metrics = trainer.learn()
        if "kl/mean" in metrics:
            kls.append([float(metrics["mpo/kl_mean_rel"]), float(metrics["mpo/kl_std_rel"])])
            temperatures += [
                float(dual()) for dual in (trainer.learner.temperature, trainer.learner.penalty_temperature)
            ]
        if trainer.env_steps > 0.8 * env_steps and trainer.updates % 20 == 0:
            measured.append(measure())
    return np.array(kls), np.array(temperatures), float(np.mean(measured))


def require_regulated(kls, temperatures):
    window = 200  # updates; four periods of the target networks, over which the KL goes from 0 to its largest
    averages = np.stack([np.convolve(column, np.ones(window) / window, "valid") for column in kls.T])
    assert averages.max() <= 1.5
    assert temperatures.min() > 0 and np.isfinite(temperatures).all()


@pytest.mark.timeout(900)  # half a minute alone on a core, minutes on a busy one
def test_a_bandit_is_solved_within_one_percent(monkeypatch):
    monkeypatch.setitem(TOYS, "Bandit-v0", _Bandit)
    with make_trainer("Bandit-v0", **LEARNING | {"gamma": 0.0}) as trainer:
        kls, temperatures, mean = train_with_history(
            trainer, 8_000, lambda: trainer.learner.act(torch.ones(1, 1), deterministic=True).item()
        )
    require_regulated(kls, temperatures)
    assert mean == pytest.approx(0.4, rel=0.01)


@pytest.mark.timeout(900)  # a minute alone on a core, minutes on a busy one
def test_a_linear_quadratic_task_is_solved_within_two_percent():
    def gain():
        """The policy's mean is −gain · s in the environment's own units, ±2, over states that were
        visited."""
        obs = trainer.replay.sample(1_000, 1).obs[0]
        return -float((2 * trainer.learner.act(obs, deterministic=True) * obs).sum() / obs.square().sum())

    settings = LEARNING | {"gamma": 0.9}
    with make_trainer("LinearQuadratic-v0", env_kwargs={"noise": 0.02}, **settings) as trainer:
        kls, temperatures, found = train_with_history(trainer, 16_000, gain)
    require_regulated(kls, temperatures)
    assert found == pytest.approx(LinearQuadratic.gain(0.9), rel=0.02)


# ------------------------------------------------------------------------------- the loop's promises


def test_two_halves_with_a_saved_replay_between_equal_one_run(tmp_path):
    """Bit for bit: networks, targets, multipliers, optimisers, replay, random generators and the logged
    rows."""
    settings = {
        "save_replay": True,
        "use_retrace": True,
        "target_networks_update_period": 7,
        "samples_per_insert": 10.0,
    }
    settings["log_interval"] = 100
    with make_trainer(**settings) as whole:
        whole.train(800, out_dir=str(tmp_path / "whole"), **TRAIN)
    with make_trainer(**settings) as first:
        first.train(400, out_dir=str(tmp_path / "halves"), **TRAIN)
    with make_trainer(**settings) as second:
        second.load(tmp_path / "halves")
        assert len(second.replay) == len(first.replay) and second.replay_ptr == first.replay_ptr
        second.train(800, out_dir=str(tmp_path / "halves"), **TRAIN)
    assert weights_hash(second) == weights_hash(whole)
    assert (second.env_steps, second.updates, second.episodes) == (
        whole.env_steps,
        whole.updates,
        whole.episodes,
    )
    assert rows_of(tmp_path / "halves" / "metrics.csv") == rows_of(tmp_path / "whole" / "metrics.csv")


def test_without_a_saved_replay_a_new_one_is_filled_before_learning_goes_on(tmp_path):
    with make_trainer() as first:
        first.train(400, out_dir=str(tmp_path), **TRAIN)
    with make_trainer() as second:
        second.load(tmp_path)
        assert second.replay_size == 0
        second.train(first.env_steps + 96, out_dir=str(tmp_path), **TRAIN)
        assert second.updates == first.updates and second.replay_size > 80
        second.train(first.env_steps + 200, out_dir=str(tmp_path), **TRAIN)
        assert second.updates > first.updates


def test_episodes_of_a_resumed_run_do_not_go_on_where_the_saved_ones_stopped(tmp_path):
    """EnvPool's environments cannot be saved: a window must not lead from an old episode into a new one."""
    settings = {"save_replay": True, "num_envs": 2}
    with make_trainer("CartPole-v1", **settings) as first:
        first.train(150, out_dir=str(tmp_path), **TRAIN)
        last, rows = first.feed.obs.clone(), first.replay.index.rows
    with make_trainer("CartPole-v1", **settings) as second:
        second.load(tmp_path)
        assert second.replay.index.rows == rows + 1
        assert torch.equal(
            second.replay.storage.fields["obs"][rows], last
        )  # what followed the last transition, and is none itself
        assert not second.replay.storage.fields["valid"][rows].any()
        assert not torch.equal(second.feed.obs, last)


def test_loading_leaves_nothing_of_what_was_stored_before(tmp_path):
    with make_trainer("Counter-v0", num_envs=1) as trainer:
        for _ in range(2):
            trainer.collect()
        trainer.save(tmp_path)
        for _ in range(2):
            trainer.collect()
        trainer.load(tmp_path)
        assert len(trainer.replay) == 0
        for _ in range(3):
            trainer.collect()
        assert trainer.replay.storage.fields["obs"][:3, 0, 0].tolist() == [2.0, 3.0, 4.0]


def test_bytes_are_stored_as_bytes(tmp_path):
    methods = {"reset": _reset_bytes, "step": _step_bytes}
    factory = type(
        "_Bytes", (_Faulty,), {"observation_space": gym.spaces.Box(0, 255, (2, 2, 1), np.uint8), **methods}
    )
    with make_trainer(factory, num_envs=2) as trainer:
        trainer.train(300, out_dir=str(tmp_path), **TRAIN)
        assert trainer.replay.storage.fields["obs"].dtype == torch.uint8 and trainer.updates > 20
        assert trainer._sample_sequences(8, 1)["obs"].max() == 200


def test_a_reward_of_1e9_on_reset_rows_changes_nothing(tmp_path):
    hashes = []
    for reward in (0.0, 1e9):
        with make_trainer("Counter-v0", env_kwargs={"reset_reward": reward}, use_retrace=True) as trainer:
            trainer.train(400, out_dir=str(tmp_path / str(reward)), **TRAIN)
            hashes.append(weights_hash(trainer))
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_values_of_the_counter_know_how_it_ends(end, tmp_path):
    """Rewards 0, 1, …, 7 with γ = 0.5: Q at the last step is 7 where the episode terminates, and more where
    it is only cut off."""
    settings = {
        "gamma": 0.5,
        "q_lr": 3e-3,
        "samples_per_insert": 64.0,
        "target_networks_update_period": 20,
        "max_grad_norm": 40.0,
    }
    kwargs = {"end": end}
    with make_trainer(
        "Counter-v0", env_kwargs=kwargs, critic_layer_sizes=(32, 32), use_retrace=True, **settings
    ) as trainer:
        trainer.train(3_000, out_dir=str(tmp_path), update_after=200, batch_size=128)
        obs = torch.arange(8.0)[:, None]
        found = trainer.learner.critics[0].of_all(obs).mean(1)
        after = trainer.learner.critics[0].of_all(torch.tensor([[8.0]])).mean().item()
    value, expected = (0.0 if end == "terminated" else after), []
    for reward in reversed(range(8)):
        value = reward + 0.5 * value
        expected.insert(0, value)
    torch.testing.assert_close(found.detach(), torch.tensor(expected), rtol=0.05, atol=0.25)
    assert end == "terminated" or after > 3.0


def test_samples_per_insert_sets_the_number_of_updates(tmp_path):
    for samples, updates in ((32.0, 100), (8.0, 25), (64.0, 200), (None, 100)):
        with make_trainer("IdentityContinuous-v0", samples_per_insert=samples) as trainer:
            trainer.train(200, out_dir=str(tmp_path / str(samples)), **TRAIN)
            assert trainer.updates == pytest.approx(updates, rel=0.06)


def test_evaluation_goes_on_where_an_observation_is_too_large_to_be_squared():
    with make_trainer(_Faulty, num_envs=2) as trainer:
        assert trainer.evaluate(2)["eval/length_mean"] == 12
        envs = gym.vector.SyncVectorEnv([_Faulty] * 2)
        assert _evaluate_vectorized(trainer.agent, envs)["eval/length_mean"] == 12


def test_vectorised_evaluation_plays_in_the_units_of_training():
    with make_trainer("LinearQuadratic-v0") as trainer:
        with torch.no_grad():
            trainer.learner.policy.head.bias[0] = 0.4
        found = _evaluate_vectorized(trainer.agent, ToyVectorGym("LinearQuadratic-v0", 3), seed=7)
        assert found == trainer.evaluate(3, seed=7)
        assert found["eval/return_mean"] < -10  # a constant push of 0.8 in the environment's own units


def test_vectorised_evaluation_in_environments_of_ones_own():
    with make_trainer("Pendulum-v1") as trainer:
        envs = gym.make_vec("Pendulum-v1", num_envs=3)
        first, second = (_evaluate_vectorized(trainer.agent, envs, seed=7) for _ in range(2))
        envs.close()
    assert first == second and first["eval/length_mean"] == 200 and first["eval/return_max"] < 0


# ----------------------------------------------------------------------------------- storing by hand


def transition(number, **changes):
    values = {
        "obs": np.array([number / 10]),
        "action_exec": np.array([0.5]),
        "action_raw": np.array([0.6]),
        "behaviour_logp": -1.0,
        "reward": float(number),
        "next_obs": np.array([(number + 1) / 10]),
        "done": 0.0,
    }
    return values | changes


def test_transitions_added_by_hand_come_back_as_sequences():
    with make_trainer(num_envs=1) as trainer:
        assert all(trainer._add_transition(**transition(i)) for i in range(8))
        assert (trainer.replay_size, trainer.replay_ptr) == (8, 8)
        batch = trainer._sample_sequences(6, 3)
    assert batch.batch_size == (6, 3)
    assert set(batch.keys()) == {
        *(
            "obs",
            "next_obs",
            "actions_exec",
            "actions_raw",
            "behaviour_logp",
            "rewards",
            "dones",
            "terminated",
            "truncated",
            "valid",
        )
    }
    torch.testing.assert_close(batch["obs"][..., 0], batch["rewards"] / 10)
    torch.testing.assert_close(batch["next_obs"][:, :-1], batch["obs"][:, 1:])
    assert (
        batch["actions_raw"].unique().item() == pytest.approx(0.6)
        and batch["valid"].all()
        and not batch["dones"].any()
    )


@pytest.mark.parametrize("name", ["obs", "action_raw", "behaviour_logp", "reward", "next_obs"])
def test_a_transition_that_is_not_finite_is_refused_counted_and_breaks_the_sequence(name):
    with (
        make_trainer(num_envs=1) as trainer,
        pytest.warns(RuntimeWarning, match="1 transitions that are not finite"),
    ):
        for i in range(20):
            values = transition(
                i,
                **(
                    {name: np.array([np.nan]) if name not in ("behaviour_logp", "reward") else np.inf}
                    if i == 10
                    else {}
                ),
            )
            assert trainer._add_transition(**values) == (i != 10)
        assert trainer.refused == 1 and trainer.replay_size == 19
        batch = trainer._sample_sequences(19, 2)
        rewards = batch["rewards"][batch["valid"].all(1)]
    assert torch.equal(rewards[:, 1], rewards[:, 0] + 1) and not (rewards == 10).any()


def test_a_transition_refused_between_equal_observations_breaks_the_sequence_too():
    with make_trainer(num_envs=1) as trainer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        still = {"obs": np.zeros(1), "next_obs": np.zeros(1)}
        trainer._add_transition(**transition(1, **still))
        trainer._add_transition(**transition(2, **still | {"reward": np.nan}))
        trainer._add_transition(**transition(3, **still))
        assert trainer.replay.storage.fields["valid"][:3, 0].tolist() == [True, False, True]


def test_training_after_transitions_by_hand_links_nothing_that_did_not_follow():
    with make_trainer(num_envs=1) as trainer:
        first = trainer.feed.obs.clone()
        for i in range(3):
            trainer._add_transition(**transition(100 + i))
        trainer.collect()
        fields = trainer.replay.storage.fields
        assert fields["valid"][:5, 0].tolist() == [True, True, True, False, True]
        assert fields["obs"][3, 0].item() == pytest.approx(10.3) and torch.equal(fields["obs"][4], first)


def test_offsets_are_made_once():
    with make_trainer() as trainer:
        offsets = trainer._get_sequence_offsets(5)
        assert offsets.tolist() == [0, 1, 2, 3, 4] and trainer._get_sequence_offsets(5) is offsets


def test_too_little_data_and_several_environments_are_named():
    with make_trainer(num_envs=1) as trainer:
        trainer._add_transition(**transition(0))
        with pytest.raises(ValueError, match="batch_size must be at most the 1 transitions stored, got 4"):
            trainer._sample_sequences(4, 1)
        with pytest.raises(ValueError, match="rows"):
            trainer._sample_sequences(1, 8)
    with make_trainer() as trainer, pytest.raises(SettingError, match="num_envs = 1, this one has 4"):
        trainer._add_transition(**transition(0))


# ------------------------------------------------------------------------------------------- trouble


class _Faulty(gym.Env):
    """Gives an observation or a reward that is too large to be squared at every fifth step, or as its first
    observation."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))
    what, bad = "obs", 3e38

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return np.full(2, self.bad if self.what == "reset" else 0.0, np.float32), {}

    def step(self, action):
        self.steps += 1
        wrong = self.steps % 5 == 0
        obs = np.full(2, self.bad if wrong and self.what == "obs" else 0.1, np.float32)
        return obs, self.bad if wrong and self.what == "reward" else 1.0, False, self.steps == 12, {}


def _reset_bytes(self, *, seed=None, options=None):
    self.steps = 0
    return np.zeros((2, 2, 1), np.uint8), {}


def _step_bytes(self, action):
    self.steps += 1
    return np.full((2, 2, 1), 200, np.uint8), 1.0, False, self.steps == 12, {}


@pytest.mark.parametrize("bad", [3e38, -3e38])
@pytest.mark.parametrize(("what", "lost"), [("obs", 4), ("reward", 2), ("reset", 1)])
def test_transitions_that_are_too_large_are_refused_and_learning_goes_on(what, bad, lost, tmp_path):
    """Of 12 steps two give a bad reward, or a bad observation, which spoils the transition into it and the
    one out of it."""
    factory = type("_FaultyOften", (_Faulty,), {"what": what, "bad": bad})
    with make_trainer(factory, num_envs=2) as trainer, pytest.warns(RuntimeWarning, match="too large"):
        trainer.train(480, out_dir=str(tmp_path), **TRAIN)
        assert trainer.updates > 50 and trainer.learner.skipped == 0
        assert trainer.refused == pytest.approx(480 * lost / 12, abs=4)
        assert len(trainer.replay) == pytest.approx(480 * (12 - lost) / 12, abs=8)
        assert all(torch.isfinite(field.float()).all() for field in trainer.replay.storage.fields.values())


def test_more_than_a_hundred_bad_batches_stop_the_run_with_the_last_checkpoint_intact(tmp_path):
    with make_trainer(save_interval=100) as trainer:
        trainer.train(300, out_dir=str(tmp_path), **TRAIN)
        good = weights_hash(trainer)
        trainer.replay.storage.fields["rewards"].fill_(float("nan"))
        with pytest.raises(NonFiniteError, match="targets not finite in 101 batches in a row"):
            trainer.train(3_000, out_dir=str(tmp_path), **TRAIN)
    with make_trainer() as again:
        again.load(tmp_path)
        assert weights_hash(again) == good


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"retrace_steps": 0}, "retrace_steps must be at least 1"),
        ({"retrace_steps": "8", "use_retrace": True}, "retrace_steps must be a whole number, got '8'"),
        ({"retrace_steps": 2**40, "use_retrace": True}, "retrace_steps must be below replay_size"),
        (
            {"use_retrace": True, "retrace_steps": 1_000},
            "replay_size must hold at least 1001 rows of 4 environments",
        ),
        ({"replay_size": 10**13}, "replay_size too large"),
        ({"env_id": "CartPol-v1"}, "CartPole-v1"),
        ({"policy_layer_sizes": 8}, "policy_layer_sizes"),
        ({"seed": -1}, "seed"),
        ({"samples_per_insert": 0.0}, "samples_per_insert"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        make_trainer(**settings)


class _Odd(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}


def test_unsupported_spaces_are_named():
    with pytest.raises(SettingError, match="MPO takes discrete or continuous"):
        make_trainer(_Odd)
    with pytest.raises(SettingError, match="image observations"):
        make_trainer(
            type("_Image", (_Odd,), {"observation_space": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)})
        )


def test_bad_arguments_of_train_are_named(tmp_path):
    with make_trainer(use_retrace=True, retrace_steps=8) as trainer:
        for changes, message in (
            ({"total_steps": 0}, "total_steps"),
            ({"batch_size": 33}, "batch_size must be a multiple of retrace_steps = 8, got 33"),
            ({"batch_size": 8_000}, "batch_size must be at most replay_size = 4000, got 8000"),
            ({"m_steps": 0}, "m_steps"),
            ({"update_after": -1}, "update_after"),
        ):
            with pytest.raises(SettingError, match=message):
                trainer.train(**{"total_steps": 10, "out_dir": str(tmp_path), **TRAIN, **changes})


def test_other_settings_than_the_checkpoints_are_an_error(tmp_path):
    with make_trainer(save_replay=True) as trainer:
        trainer.train(200, out_dir=str(tmp_path), **TRAIN)
    for settings in (
        {"policy_layer_sizes": (8,)},
        {"twin_critic": True},
        {"num_envs": 5},
        {"replay_size": 2_000, "save_replay": True},
    ):
        with make_trainer(**settings) as other, pytest.raises(CheckpointError):
            other.load(tmp_path)


def test_defaults_of_the_constructor_are_the_documented_ones():
    with MPOTrainer("IdentityContinuous-v0", 1, CPU, (8,), (8,), 1_000) as trainer:
        learner = trainer.learner
        assert trainer.env.num_envs == 1 and trainer.config.window == 1
        assert [alpha.bound for alpha in learner.alphas.values()] == [
            0.1,
            0.1,
        ] and learner.temperature().item() == 1.0
        assert learner.alphas["mean"]().item() == pytest.approx(10.0, abs=1e-3) and learner.alphas[
            "std"
        ]().item() == pytest.approx(1_000.0)


def test_the_documented_configuration_has_the_constructor_s_defaults():
    documented = MPOConfig.documented(env_id="none")
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(MPOTrainer).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert len(defaults) == 21
    assert {name: getattr(documented, name) for name in defaults} == defaults


def test_a_run_made_in_python_is_a_run_folder_for_the_command_line(tmp_path):
    with make_trainer("Pendulum-v1", gamma=0.9) as trainer:
        trainer.train(200, out_dir=str(tmp_path), m_steps=2, **TRAIN)
    config = MPOConfig.from_toml((tmp_path / "config.toml").read_text())
    assert (config.total_steps, config.batch_size, config.update_after, config.m_steps, config.gamma) == (
        200,
        32,
        100,
        2,
        0.9,
    )
    with MPOTrainer.from_config(config) as again:
        again.load(tmp_path)
        again.train(300, out_dir=str(tmp_path))
        assert again.config.batch_size == 32 and again.config.m_steps == 2


def test_settings_of_the_updates_are_the_configuration_s_unless_they_are_given(tmp_path):
    with MPOTrainer.from_config(config_of_updates()) as trainer:
        assert trainer.config.batch_size == 36  # a multiple of retrace_steps, checked as it is
        trainer.train(60, str(tmp_path / "a"))
        assert (trainer.config.batch_size, trainer.config.update_after, trainer.config.m_steps) == (36, 40, 2)
        trainer.train(80, out_dir=str(tmp_path / "b"), batch_size=18)
        assert (trainer.config.batch_size, trainer.config.update_after, trainer.config.m_steps) == (18, 40, 2)
        trainer.feed.due = 1.0
        assert next(trainer.feed.batches()).rewards.shape == (6, 3)
        with pytest.raises(SettingError, match="batch_size must be a multiple of retrace_steps = 6, got 20"):
            trainer.train(90, 50, 20, str(tmp_path / "c"))
        assert (trainer.config.batch_size, trainer.config.update_after) == (18, 40)
    assert [
        MPOConfig.from_toml((tmp_path / name / "config.toml").read_text()).batch_size for name in "ab"
    ] == [36, 18]
    with pytest.raises(SettingError, match="batch_size must be a multiple of retrace_steps = 6, got 20"):
        MPOTrainer.from_config(config_of_updates(batch_size=20))
    with pytest.raises(SettingError, match="batch_size must be at most replay_size = 200, got 252"):
        MPOTrainer.from_config(config_of_updates(batch_size=252))


def config_of_updates(**changes):
    networks = {
        "policy_layer_sizes": (8,),
        "critic_layer_sizes": (8,),
        "replay_size": 200,
        "action_samples": 4,
    }
    updates = {"use_retrace": True, "retrace_steps": 6, "batch_size": 36, "update_after": 40, "m_steps": 2}
    return MPOConfig(
        **{
            "env_id": "LinearQuadratic-v0",
            "num_envs": 2,
            "eval_episodes": 1,
            "total_steps": 60,
            **networks,
            **updates,
            **changes,
        }
    )


def test_options_of_the_environment_reach_it_as_they_are():
    with make_trainer(
        "Counter-v0", num_envs=2, env_kwargs={"length": [3, 5]}, max_episode_steps=4
    ) as trainer:
        lengths = [
            episode.length for _ in range(12) if trainer.collect() for episode in trainer.env.pop_episodes()
        ]
        assert trainer.episodes >= 4 and {length for _, length in trainer.recent} == {3, 4} and not lengths


def test_metrics_are_finite_numbers(tmp_path):
    with make_trainer(use_retrace=True, log_interval=100) as trainer:
        trainer.train(400, out_dir=str(tmp_path), **TRAIN)
    rows = rows_of(tmp_path / "metrics.csv")
    assert rows and all(
        np.isfinite(float(value)) for row in rows for value in row.values() if value not in ("", None)
    )
    assert {
        "loss/policy",
        "loss/q",
        "mpo/temperature",
        "kl/mean",
        "train/entropy",
        "replay/transitions",
    } <= set(rows[-1])


def test_a_configuration_is_checked_with_its_own_batch_size_before_anything_is_made():
    base = {
        "env_id": "LinearQuadratic-v0",
        "num_envs": 2,
        "replay_size": 1000,
        "policy_layer_sizes": (8,),
        "critic_layer_sizes": (8,),
    }
    with pytest.raises(SettingError, match="batch_size must be a multiple of retrace_steps = 4, got 30"):
        MPOTrainer.from_config(MPOConfig(**base, use_retrace=True, retrace_steps=4, batch_size=30))
    with pytest.raises(SettingError, match="batch_size must be at most replay_size = 1000, got 1001"):
        MPOTrainer.from_config(MPOConfig(**base, batch_size=1001))
    with MPOTrainer.from_config(
        MPOConfig(**base, use_retrace=True, retrace_steps=3, batch_size=30, update_after=60, m_steps=2)
    ) as trainer:
        assert (trainer.config.batch_size, trainer.config.update_after, trainer.config.m_steps) == (
            30,
            60,
            2,
        ) and trainer.config.batch_size == 30
