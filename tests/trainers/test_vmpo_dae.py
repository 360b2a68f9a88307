"""V-MPO with direct advantage estimation: the fit before the policy moves, its gradients, exact resuming,
learning."""

import copy

import pytest
import torch

from fastrl.cli.main import main
from fastrl.errors import NonFiniteError
from fastrl.losses.dae import advantage_variance, centred_advantages, dae_loss
from fastrl.nn.distributions import Categorical, DiagonalGaussian
from fastrl.trainers.vmpo.agent import VMPOAgent
from fastrl.trainers.vmpo.batch import VMPOSegments
from fastrl.trainers.vmpo.config import VMPOConfig
from fastrl.trainers.vmpo.learner import VMPOLearner
from fastrl.trainers.vmpo.trainer import VMPOTrainer

CPU = torch.device("cpu")
STEPS, ENVS, OBS, ACT = 12, 4, 5, 3
both_kinds = pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])


def make_trainer(env_id="ProofofMemory-v0", **settings):
    sizes = {"policy_layer_sizes": (16,), "value_layer_sizes": (16,), "rollout_steps": 16, "num_envs": 4}
    return VMPOTrainer(
        env_id, device=CPU, **sizes | {"seed": 3, "threads": 1, "advantage_estimator": "dae"} | settings
    )


def make_learner(discrete, **settings):
    torch.manual_seed(0)
    sizes = {"policy_layer_sizes": (16,), "value_layer_sizes": (16,), "normalize_observation": False}
    config = VMPOConfig.documented(env_id="", advantage_estimator="dae", **sizes | settings)
    return VMPOLearner(config, OBS, ACT, CPU, "discrete" if discrete else "continuous")


def make_segments(learner):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    obs, rewards = draw(STEPS + 1, ENVS, OBS), draw(STEPS, ENVS)
    terminated, truncated, valid = (torch.zeros(STEPS, ENVS, dtype=torch.bool) for _ in range(3))
    terminated[3, 0] = truncated[7, 1] = terminated[11, 2] = True
    valid |= True
    valid[4, 0] = valid[8, 1] = False
    if learner.discrete:
        acted = Categorical(draw(STEPS, ENVS, ACT))
        actions = torch.randint(ACT, (STEPS, ENVS), generator=generator)
    else:
        acted = DiagonalGaussian(draw(STEPS, ENVS, ACT), 0.3 * draw(1, ACT))
        actions = acted.mean + draw(STEPS, ENVS, ACT)
    return VMPOSegments(
        obs[:-1], actions, acted, rewards, learner.values_of(obs), terminated, truncated, valid
    )


def parameters_of(learner):
    return {
        **dict(learner.policy.named_parameters()),
        **dict(learner.advantage_network.named_parameters(prefix="advantage")),
    }


# ------------------------------------------------------------------------------------------- the fit


@both_kinds
@pytest.mark.parametrize("shared", [False, True], ids=["apart", "shared encoder"])
@pytest.mark.parametrize("rate", [None, 0.5])
def test_a_step_of_the_fit_is_the_gradient_of_the_loss_and_leaves_the_policy_alone(discrete, shared, rate):
    plain = {
        "optimizer_type": "sgd",
        "sgd_momentum": 0.0,
        "value_lr": 1.0,
        "advantage_lr": rate,
        "policy_lr": 3.0,
        "max_grad_norm": 1e9,
    }
    learner = make_learner(discrete, shared_encoder=shared, dae_epochs=1, dae_minibatches=1, **plain)
    segments = make_segments(learner)
    twin = copy.deepcopy(learner)
    twin.policy.double(), twin.advantage_network.double()
    exact = {name: getattr(segments, name).double() for name in ("obs", "rewards", "values")}
    logits_or_mean = segments.acted.logits if discrete else segments.acted.mean
    acted = (
        Categorical(logits_or_mean.double())
        if discrete
        else DiagonalGaussian(logits_or_mean.double(), segments.acted.log_std.double())
    )
    flat = exact["obs"].flatten(0, 1)
    values = twin.policy.get_value(flat).view(STEPS, ENVS)
    advantages = centred_advantages(
        twin.advantage_network(flat).unflatten(0, (STEPS, ENVS)), acted, segments.actions
    )
    given = (values, exact["rewards"], exact["values"], segments.terminated, segments.truncated)
    loss, _ = dae_loss(advantages, *given, gamma=learner.config.gamma, valid=segments.valid)
    loss.backward()

    before = {name: parameter.detach().clone() for name, parameter in parameters_of(learner).items()}
    _, _, metrics = learner.fit_advantages(segments)
    assert metrics["loss/dae"].item() == pytest.approx(loss.item(), rel=1e-4)
    expected = {name: parameter.grad for name, parameter in parameters_of(twin).items()}
    fitted = [
        name
        for name in before
        if name.startswith(("advantage", "value_head")) or (not shared and name.startswith("value"))
    ]
    assert len(fitted) == (6 if shared else 8)
    for name, parameter in parameters_of(learner).items():
        step = before[name] - parameter
        if name in fitted:
            factor = rate if rate is not None and name.startswith("advantage") else 1.0
            torch.testing.assert_close(step, factor * expected[name].float(), rtol=1e-3, atol=1e-5)
        else:
            assert not step.any(), name


@both_kinds
@pytest.mark.parametrize("scaled", [False, True])
def test_what_the_policy_gets_is_the_advantage_after_the_fit(discrete, scaled):
    learner = make_learner(discrete, normalize_advantages=scaled, dae_epochs=3)
    segments = make_segments(learner)
    before = learner.policy.distribution(segments.obs.flatten(0, 1))
    found, targets, metrics = learner.fit_advantages(segments)
    with torch.no_grad():
        outputs = learner.advantage_network(segments.obs.flatten(0, 1)).unflatten(0, (STEPS, ENVS))
        values = learner.values_of(segments.obs)
        raw = centred_advantages(outputs, segments.acted, segments.actions)
        scale = advantage_variance(outputs, segments.acted)[segments.valid].mean().sqrt()
        kls = before.kl_parts(learner.policy.distribution(segments.obs.flatten(0, 1)))
    assert max(kl.abs().max().item() for kl in kls) < 1e-10
    expected = torch.where(segments.valid, raw / scale if scaled else raw, 0.0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(metrics["dae/advantage_std"], scale)
    errors = (targets - values)[segments.valid]
    assert metrics["dae/loss_after"].item() == pytest.approx(errors.square().mean().item(), rel=1e-5)
    assert metrics["dae/loss_after"] < metrics["loss/dae"]  # a mean over the fit
    assert not found.requires_grad and not targets.requires_grad


@both_kinds
def test_the_gradient_of_advantage_and_value_together_is_clipped(discrete):
    learner = make_learner(
        discrete, dae_epochs=1, optimizer_type="sgd", sgd_momentum=0.0, value_lr=1.0, max_grad_norm=1e-3
    )
    before = {name: parameter.detach().clone() for name, parameter in parameters_of(learner).items()}
    _, _, metrics = learner.fit_advantages(make_segments(learner))
    steps = [
        (before[name] - parameter).double().square().sum()
        for name, parameter in parameters_of(learner).items()
    ]
    assert (
        torch.stack(steps).sum().sqrt().item() == pytest.approx(1e-3, rel=1e-3)
        and metrics["grad/dae_norm"] > 1e-2
    )


def plain_targets(trainer, rewards, advantages, values):
    """What V is fitted to: rewards less advantages up to the end of each piece, then V, and the mean with the
    sums that stop sooner."""
    rollout, gamma, dae_lambda = trainer.rollout, trainer.config.gamma, trainer.config.dae_lambda
    targets = torch.zeros_like(rewards, dtype=torch.float64)
    for start, env in rollout.valid.nonzero().tolist():
        total, discount, left = 0.0, 1.0, 1.0
        for t in range(start, trainer.config.num_steps):
            total, discount = (
                total + discount * (rewards[t, env] - advantages[t, env]).item(),
                discount * gamma,
            )
            stopped = total + (0.0 if rollout.terminated[t, env] else discount * values[t + 1, env].item())
            if rollout.terminated[t, env] or rollout.truncated[t, env] or t + 1 == trainer.config.num_steps:
                targets[start, env] += left * stopped
                break
            targets[start, env] += left * (1.0 - dae_lambda) * stopped
            left *= dae_lambda
    return targets


@pytest.mark.parametrize("dae_lambda", [1.0, 0.8])
@pytest.mark.parametrize("env_id", ["ProofofMemory-v0", "IdentityContinuous-v0"])
def test_rollouts_of_a_trainer_by_hand(env_id, dae_lambda):
    """Scaled rewards, observations of the second rollout normalised, a policy that acts and is not the one
    that learns, reset rows."""
    settings = {
        "rollout_steps": 40,
        "num_envs": 3,
        "dae_epochs": 2,
        "dae_minibatches": 2,
        "m_steps": 2,
        "policy_lr": 1e-2,
    }
    with make_trainer(env_id, **settings, dae_lambda=dae_lambda, target_update_period=2) as trainer:
        learner, rollout = trainer.learner, trainer.rollout
        checked = []

        def check(rows):
            """The policy is about to learn from these rows."""
            with torch.no_grad():
                acted = learner.acting_policy.distribution(states)
                outputs = learner.advantage_network(learner.policy.obs_normalizer(states))
            advantages = centred_advantages(outputs, acted, rollout.actions.flatten(0, 1)).view(40, 3)
            scale = advantage_variance(outputs, acted)[rollout.valid.flatten()].mean().sqrt()
            expected = (advantages / scale)[rollout.valid]
            torch.testing.assert_close(rows.advantages, expected, rtol=1e-4, atol=1e-5)
            targets = plain_targets(trainer, trainer.reward_scaler(rollout.rewards), advantages, values)
            expected = targets[rollout.valid].float()
            torch.testing.assert_close(rows.returns, expected, rtol=1e-4, atol=1e-5)
            checked.append(rows)
            return VMPOLearner.learn(learner, rows)

        learner.learn = check
        for _ in range(2):
            trainer.collect()
            values, states = learner.values_of(rollout.obs), rollout.obs[:-1].flatten(0, 1)
            trainer.estimate()
            trainer.learn()
        assert len(checked) == 2
        assert not rollout.valid.all() and learner.policy.obs_normalizer.count > 0


def test_estimating_does_not_train():
    """The fit is a step of learning, with a time of its own."""
    with make_trainer() as trainer:
        trainer.collect()
        before = hashes(trainer)
        trainer.estimate()
        assert all(torch.equal(*pair) for pair in zip(hashes(trainer), before, strict=True))
        assert "fitting" not in trainer.stopwatch.seconds
        assert {"loss/dae", "dae/advantage_std", "dae/loss_after"} <= set(trainer.learn())
        assert not all(torch.equal(*pair) for pair in zip(hashes(trainer), before, strict=True))
        assert trainer.stopwatch.seconds["fitting"] > 0


def test_a_rollout_without_a_transition_moves_nothing():
    """Nor does a minibatch: momentum alone would."""
    learner = make_learner(discrete=True, dae_minibatches=ENVS)
    segments = make_segments(learner)
    learner.fit_advantages(segments)
    before = {name: parameter.detach().clone() for name, parameter in parameters_of(learner).items()}
    segments.valid.zero_()
    advantages, _, _ = learner.fit_advantages(segments)
    assert all(torch.equal(parameter, before[name]) for name, parameter in parameters_of(learner).items())
    assert torch.isfinite(advantages).all()
    segments.valid[:, 0] = True
    _, _, metrics = learner.fit_advantages(segments)
    assert metrics["loss/dae"] > 0.5 * metrics["dae/loss_after"], (
        "a mean over the minibatches that have transitions"
    )


def test_the_parameters_of_the_advantage_function_are_counted():
    with make_trainer() as direct, make_trainer(advantage_estimator="gae") as other:
        count = sum(parameter.numel() for parameter in direct.learner.advantage_network.parameters())
        told = [
            int(trainer.describe().split(" parameters")[0].split(", ")[-1].replace(",", ""))
            for trainer in (direct, other)
        ]
        assert told[0] - told[1] == count


def test_minibatches_are_whole_environments_each_once():
    segments = make_segments(make_learner(discrete=True))
    for count, sizes in ((1, [4]), (3, [2, 1, 1]), (9, [1, 1, 1, 1])):
        parts = list(segments.minibatches(count))
        assert [part.rewards.shape[1] for part in parts] == sizes
        columns = torch.cat([part.rewards for part in parts], 1)
        order = [int((segments.rewards == columns[:, [env]]).all(0).nonzero()) for env in range(ENVS)]
        assert sorted(order) == list(range(ENVS))
        for name in ("obs", "actions", "values", "terminated", "truncated", "valid"):
            assert torch.equal(
                torch.cat([getattr(part, name) for part in parts], 1), getattr(segments, name)[:, order]
            )
        assert torch.equal(
            torch.cat([part.acted.logits for part in parts], 1), segments.acted.logits[:, order]
        )


def test_advantages_are_not_standardised_a_second_time():
    agents = []
    for normalize in (True, False):
        torch.manual_seed(0)
        settings = {"advantage_estimator": "dae", "normalize_advantages": normalize}
        agents.append(VMPOAgent(OBS, ACT, CPU, (16,), (16,), **settings, action_kind="discrete"))
    rows = 30
    obs, advantages = torch.randn(rows, OBS), 5.0 + torch.randn(rows)
    actions, _, logits, _ = agents[0].act(obs.numpy())
    batch = {
        "obs": obs,
        "actions": actions,
        "returns": torch.randn(rows),
        "advantages": advantages,
        "old_logits": logits,
    }
    assert agents[0].update(batch) == agents[1].update(batch)


def test_a_number_that_is_not_finite_stops_before_the_parameters_change():
    learner = make_learner(discrete=False)
    segments = make_segments(learner)
    segments.rewards[2, 3] = float("nan")
    before = {name: parameter.detach().clone() for name, parameter in parameters_of(learner).items()}
    with pytest.raises(NonFiniteError, match="loss/dae.* in update 0"):
        for _ in range(ENVS):
            learner.fit_advantages(
                VMPOSegments(
                    *(getattr(segments.of(torch.tensor([3])), name) for name in VMPOSegments.__slots__)
                )
            )
    assert all(torch.equal(parameter, before[name]) for name, parameter in parameters_of(learner).items())


# ------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("env_id", ["Identity-v0", "IdentityContinuous-v0"])
def test_it_learns_the_identity(env_id, tmp_path):
    settings = {
        "num_envs": 8,
        "rollout_steps": 32,
        "m_steps": 8,
        "policy_lr": 1e-2,
        "value_lr": 1e-2,
        "gamma": 0.0,
    }
    with make_trainer(env_id, alpha_lr=1e-2, epsilon_mu=0.1, **settings) as trainer:
        untrained = trainer.evaluate(16)["eval/return_mean"]
        trainer.train(6_000, str(tmp_path))
        trained = trainer.evaluate(16)["eval/return_mean"]
        optimum = trainer.env.optimal_return
    assert trained > untrained
    assert trained >= optimum - 0.15 * abs(optimum - untrained)


def hashes(trainer):
    return [value.clone() for value in parameters_of(trainer.learner).values()]


def rows_of(path):
    text = path.read_text().splitlines()
    keep = [position for position, name in enumerate(text[0].split(",")) if not name.startswith("time/")]
    return [[line.split(",")[position] for position in keep] for line in text]


def test_two_halves_with_a_checkpoint_between_equal_one_run(tmp_path):
    settings = {"m_steps": 2, "target_update_period": 2}
    with make_trainer(**settings) as whole:
        whole.train(800, str(tmp_path / "whole"))
    with make_trainer(**settings) as first:
        first.train(400, str(tmp_path / "halves"))
    with make_trainer(**settings) as second:
        second.load(tmp_path / "halves")
        second.train(800, str(tmp_path / "halves"))
    assert all(torch.equal(*pair) for pair in zip(hashes(second), hashes(whole), strict=True))
    found = rows_of(tmp_path / "halves" / "metrics.csv")
    assert found == rows_of(tmp_path / "whole" / "metrics.csv")
    assert {"loss/dae", "dae/advantage_std", "dae/loss_after", "grad/dae_norm"} <= set(found[0])


def test_rewards_on_reset_rows_change_nothing(tmp_path):
    found = []
    for reward in (0.0, 1e9):
        with make_trainer("Counter-v0", env_kwargs={"reset_reward": reward}, m_steps=2) as trainer:
            trainer.train(400, str(tmp_path / str(reward)))
            found.append(hashes(trainer))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("env_id", ["ProofofMemory-v0", "IdentityContinuous-v0"])
def test_the_policy_that_learns_from_a_rollout_is_the_one_that_acted(env_id):
    with make_trainer(env_id, m_steps=2, policy_lr=1e-2, shared_encoder=True) as trainer:
        kls = []

        def look(rows):
            with torch.no_grad():
                now = trainer.learner.policy.distribution(rows.obs)
                kls.extend(kl.abs().max().item() for kl in rows.acted.kl_parts(now))
            return VMPOLearner.learn(trainer.learner, rows)

        trainer.learner.learn = look
        for _ in range(3):
            trainer.collect()
            trainer.estimate()
            trainer.learn()
        assert kls and max(kls) < 1e-10


def test_on_the_command_line(tmp_path, capsys):
    sizes = [
        "--num-envs",
        "2",
        "--num-steps",
        "8",
        "--m-steps",
        "2",
        "--policy-layer-sizes",
        "8",
        "--value-layer-sizes",
        "8",
    ]
    words = [
        "train",
        "vmpo",
        "--env-id",
        "CartPole-v1",
        "--advantage-estimator",
        "dae",
        *sizes,
        "--eval-episodes",
        "2",
    ]
    assert main([*words, "--dae-epochs", "2", "--total-steps", "64", "--out-dir", str(tmp_path / "run")]) == 0
    assert main(["train", "vmpo", "--resume", str(tmp_path / "run"), "--total-steps", "128"]) == 0
    assert main(["train", "vmpo", "--resume", str(tmp_path / "run"), "--advantage-estimator", "gae"]) == 2
    assert "advantage_estimator" in capsys.readouterr().err
