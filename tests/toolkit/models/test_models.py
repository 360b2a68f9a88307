"""Models of the toolkit: losses by hand and by torch's own distributions, callbacks, networks from
configurations."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import distributions as td
from torch import nn

from fastrl.errors import SettingError
from fastrl.losses.policy_gradient import HIGHEST_PENALTY, LOWEST_PENALTY
from fastrl.nn.containers import SequentialExtended
from fastrl.nn.distributions import DiagonalGaussian
from fastrl.toolkit.batchers import Batch
from fastrl.toolkit.models import (
    A2CModel,
    BasePGModel,
    PPOAdaptiveModel,
    PPOClipModel,
    SurrogatePGModel,
    ValueModel,
    VanillaPGModel,
)
from fastrl.toolkit.optimizers import JointOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.utils import explained_var

DISCRETE = {"space": "discrete", "shape": 3, "dtype": "int64"}
CONTINUOUS = {"space": "continuous", "shape": (2,), "dtype": "float32"}
BRANCHES = {"space": "multi_discrete", "shape": (3,), "dtype": "int64", "nvec": (3, 2, 4)}
POLICIES = [VanillaPGModel, A2CModel, SurrogatePGModel, PPOClipModel, PPOAdaptiveModel]


def make_batcher(action_info=DISCRETE, num_steps=0):
    return SimpleNamespace(
        get_state_info=lambda: {"shape": (4,), "space": "continuous", "dtype": "float32"},
        get_action_info=lambda: action_info,
        num_steps=num_steps,
    )


def make_model(cls, action_info=DISCRETE, num_steps=0, **settings):
    torch.manual_seed(0)
    config = Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=8), dict(func=nn.Tanh)]))
    return cls.from_config(config, batcher=make_batcher(action_info, num_steps), **settings)


def make_batch(model, rows=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(rows, 4, generator=generator)
    torch.manual_seed(seed)
    with torch.no_grad():
        actions = model.dist_of(states).sample() if isinstance(model, BasePGModel) else torch.zeros(rows)
    return Batch(
        state_t=states,
        action=actions,
        advantage=torch.randn(rows, generator=generator),
        vtarget=torch.randn(rows, generator=generator),
    )


def run(model, event, batch):
    return [callback(batch) for callback in model.callbacks[event]]


def moved(model, by=0.3):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model


def ready(model):
    """The batch of a model in the middle of training: π_old remembered, parameters moved, π at the rows."""
    batch = make_batch(model)
    run(model, "train_start", batch)
    moved(model)
    run(model, "mini_batch_start", batch)
    return batch


class SeveralChoices:
    """torch's categoricals of several branches, put together by hand."""

    def __init__(self, logits):
        self.choices = [td.Categorical(logits=part) for part in logits.split([3, 2, 4], -1)]
        self.probs = [choice.probs for choice in self.choices]

    def log_prob(self, actions):
        return sum(
            choice.log_prob(action) for choice, action in zip(self.choices, actions.unbind(-1), strict=True)
        )

    def entropy(self):
        return sum(choice.entropy() for choice in self.choices)


@td.register_kl(SeveralChoices, SeveralChoices)
def kl_of_several(old, new):
    return sum(td.kl_divergence(one, other) for one, other in zip(old.choices, new.choices, strict=True))


def torch_dist(model, states):
    out = model(states)
    if out.shape[1] == 9:
        return SeveralChoices(out)
    if out.dim() == 2:
        return td.Categorical(logits=out)
    return td.Independent(td.Normal(out[..., 0], out[..., 1].exp()), 1)


every_space = pytest.mark.parametrize(
    "action_info", [DISCRETE, CONTINUOUS, BRANCHES], ids=["discrete", "continuous", "multi_discrete"]
)


# ------------------------------------------------------------------------------------ golden numbers


def golden(cls, **settings):
    model = make_model(cls, **settings)
    new, old = torch.tensor([0.5, 0.2, 0.9]), torch.tensor([0.4, 0.4, 0.6])
    return model, Batch(
        state_t=torch.zeros(3, 4),
        new_log_prob=new.log(),
        log_prob=old.log(),
        advantage=torch.tensor([1.0, -1.0, 2.0]),
    )


def test_golden_surrogate():
    model, batch = golden(SurrogatePGModel)
    torch.testing.assert_close(
        model.calculate_prob_ratio(batch.new_log_prob, batch.log_prob), torch.tensor([1.25, 0.5, 1.5])
    )
    assert model.surrogate_pg_loss(batch).item() == pytest.approx(-1.25)


def test_golden_clip():
    model, batch = golden(PPOClipModel)
    assert model.ppo_clip_loss(batch).item() == pytest.approx(-0.933333, abs=1e-6)
    assert model.clip_fraction(model.calculate_prob_ratio(batch.new_log_prob, batch.log_prob)).item() == 1.0


def test_golden_kl():
    model = make_model(SurrogatePGModel)
    old, new = (model.create_dist(torch.tensor([p]).log()) for p in ([0.7, 0.3], [0.5, 0.5]))
    assert model.kl_div(old, new).item() == pytest.approx(0.0822829, abs=1e-6)
    model = make_model(SurrogatePGModel, CONTINUOUS)
    old, new = (model.create_dist(torch.tensor([[[m, math.log(s)]]])) for m, s in ((0.0, 1.0), (0.5, 2.0)))
    assert model.kl_div(old, new).item() == pytest.approx(0.3493972, abs=1e-6)


def test_golden_values():
    new, targets, old = (
        torch.tensor([1.5, 2.1, 2.0]),
        torch.tensor([2.0, 2.0, 0.0]),
        torch.tensor([1.0, 2.0, 3.0]),
    )
    for clip_range, expected in ((0.2, 1.415), (None, 1.42)):
        model = make_model(ValueModel, clip_range=clip_range)
        model.forward = lambda x: new[:, None]
        batch = Batch(state_t=torch.zeros(3, 4), vtarget=targets, old_pred=old)
        assert model.calculate_loss(batch).item() == pytest.approx(expected, rel=1e-6)


# -------------------------------------------------------------------------------------------- losses


@every_space
@pytest.mark.parametrize("cls", [VanillaPGModel, A2CModel])
def test_the_policy_gradient_is_that_of_log_probabilities(cls, action_info):
    model = make_model(cls, action_info, entropy_coef=0.1)
    batch = ready(model)
    dist = torch_dist(model, batch.state_t)
    expected = -(dist.log_prob(batch.action) * batch.advantage).mean() - 0.1 * dist.entropy().mean()
    torch.testing.assert_close(
        model.calculate_loss(batch), expected
    )  # entropy is summed over action dimensions


@every_space
def test_surrogate_losses_are_their_formulas(action_info):
    for cls in (SurrogatePGModel, PPOClipModel, PPOAdaptiveModel):
        model = make_model(cls, action_info, entropy_coef=0.01)
        batch = make_batch(model)
        old = torch_dist(model, batch.state_t)
        old_log_prob = old.log_prob(batch.action).detach()
        run(model, "train_start", batch)
        moved(model)
        run(model, "mini_batch_start", batch)
        new = torch_dist(model, batch.state_t)
        ratio = (new.log_prob(batch.action) - old_log_prob).exp()
        expected = -(ratio * batch.advantage).mean() - 0.01 * new.entropy().mean()
        if cls is PPOClipModel:
            clipped = torch.minimum(ratio * batch.advantage, ratio.clamp(0.8, 1.2) * batch.advantage)
            expected = -clipped.mean() - 0.01 * new.entropy().mean()
        if cls is PPOAdaptiveModel:
            kl = td.kl_divergence(old, new).mean()
            expected = expected + 1.0 * kl + 50 * (kl - 0.02).clamp(min=0).square()
        torch.testing.assert_close(model.calculate_loss(batch), expected, rtol=1e-4, atol=1e-6)


def test_old_policies_are_those_before_the_batch_at_every_epoch():
    model = make_model(PPOClipModel)
    batch = make_batch(model)
    before = model.dist_of(batch.state_t).log_prob(batch.action).detach()
    SingleOpt(model, num_epochs=3, num_mini_batches=4, opt_params={"lr": 0.05}).learn_from_batch(
        batch, step=0
    )
    torch.testing.assert_close(batch.log_prob, before)


def test_values_are_clipped_about_what_they_were_before_the_batch():
    model = make_model(ValueModel, clip_range=0.2)
    batch = make_batch(model)
    before = model(batch.state_t).flatten().detach()
    SingleOpt(model, num_epochs=5, opt_params={"lr": 0.05}).learn_from_batch(batch, step=0)
    assert torch.equal(batch.old_pred, before)
    known = make_batch(model)
    known.state_value_t = torch.full((20,), 7.0)
    run(model, "train_start", known)
    assert torch.equal(known.old_pred, known.state_value_t)  # not worked out a second time


@pytest.mark.parametrize("cls", [*POLICIES, ValueModel])
def test_a_loss_that_is_not_one_number_is_named(cls):
    model = make_model(cls)
    batch = ready(model)
    if cls is ValueModel:
        model.register_loss(lambda batch: batch.vtarget)
        with pytest.raises(ValueError, match="must return one number"):
            model.calculate_loss(batch)
    else:
        batch.advantage = batch.advantage[:, None]
        with pytest.raises(ValueError, match=r"one value for each row|must have the rows of advantages"):
            model.calculate_loss(batch)


def test_losses_are_remembered_without_their_graphs():
    model = make_model(PPOClipModel)
    batch = ready(model)
    model.calculate_loss(batch)
    assert all(not value.requires_grad for values in model.memory.values() for value in values)


class Notes:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.values = {}

    def add_log(self, name, value, precision=2):
        self.values[name] = value

    add_tf_only_log = add_log


def trained(model, batch, **settings):
    """What the model logs of learning from a batch."""
    notes = Notes()
    model.attach_logger(notes)
    SingleOpt(model, **{"num_epochs": 3, "opt_params": {"lr": 0.05}, **settings}).learn_from_batch(
        batch, step=0
    )
    return notes.values


@pytest.mark.parametrize("cls", [*POLICIES, ValueModel])
def test_what_is_logged_has_no_graph(cls):
    values = trained(make_model(cls), make_batch(make_model(cls)))
    assert values and not any(
        isinstance(value, torch.Tensor) and value.requires_grad for value in values.values()
    )


@pytest.mark.parametrize("cls", POLICIES)
def test_every_policy_trains_in_several_mini_batches(cls):
    model = make_model(cls)
    batch = make_batch(model)
    steps = []
    model.callbacks["mini_batch_end"].append(lambda batch: steps.append(len(batch)))
    trained(model, batch, num_epochs=2, num_mini_batches=4)
    assert steps == [5] * 8


def test_entropy_is_summed_over_action_dimensions():
    model = make_model(PPOClipModel, CONTINUOUS, entropy_coef=0.5)
    batch = Batch(dist=model.create_dist(torch.zeros(7, 2, 2)))  # two dimensions of standard deviation 1
    assert model.entropy_loss(batch).item() == pytest.approx(-0.5 * 2 * 0.5 * math.log(2 * math.pi * math.e))


def test_the_share_of_clipped_values_counts_each_row_once():
    model = make_model(ValueModel, clip_range=0.2)
    batch = make_batch(model)
    before = model(batch.state_t).flatten().detach()
    values = trained(model, batch)
    after = model(batch.state_t).flatten().detach()
    moved_far = ((after - before).abs() > 0.2).float().mean().item()
    assert 0.0 < moved_far < 1.0 and values["ValueModel/Clip Fraction"].item() == pytest.approx(moved_far)


def test_explained_variance_is_told_before_and_after_the_whole_batch():
    model = make_model(ValueModel)
    batch = make_batch(model)
    before = explained_var(batch.vtarget, model(batch.state_t))
    values = trained(model, batch, num_epochs=6)
    assert values["ValueModel/Old Explained Var"] == pytest.approx(before, abs=1e-5)
    assert values["ValueModel/New Explained Var"] == pytest.approx(
        explained_var(batch.vtarget, model(batch.state_t)), abs=1e-5
    )
    assert before < values["ValueModel/New Explained Var"]


def test_coefficients_and_ranges_may_be_functions_of_the_step():
    batcher_steps = 10
    model = make_model(
        PPOClipModel,
        num_steps=batcher_steps,
        entropy_coef=lambda step: 0.1 * step,
        ppo_clip_range=lambda step: step / 100,
    )
    batch = ready(model)
    assert model.entropy_loss(batch).item() == pytest.approx(
        -model.dist_of(batch.state_t).entropy().mean().item(), rel=1e-5
    )
    assert model.ppo_clip_range(model.num_steps) == 0.1


# ------------------------------------------------------------------------------ the adaptive penalty


def moved_by(kl):
    """A batch whose policy went from N(0, 1) to N(√(2 kl), 1), which is at that KL divergence."""
    old, new = (
        DiagonalGaussian(torch.full((5, 1), mean), torch.zeros(1, 1)) for mean in (0.0, math.sqrt(2 * kl))
    )
    return SimpleNamespace(old_dist=old, dist=new)


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.0, 0.5), (0.006, 0.5), (0.01, 1.0), (0.014, 1.0), (0.016, 2.0)]
)
def test_the_penalty_moves_towards_the_target(kl, factor):
    model = make_model(PPOAdaptiveModel, kl_penalty=3.0)
    model._adapt(moved_by(kl))
    assert model.kl_penalty.item() == pytest.approx(3.0 * factor)


def test_the_penalty_is_bounded_and_saved():
    model = make_model(PPOAdaptiveModel, kl_penalty=1.0)
    for kl, bound in ((0.0, LOWEST_PENALTY), (1.0, HIGHEST_PENALTY)):
        for _ in range(40):
            model._adapt(moved_by(kl))
        assert model.kl_penalty.item() == pytest.approx(bound)
    other = make_model(PPOAdaptiveModel)
    other.load_state_dict(model.state_dict())
    assert other.kl_penalty.item() == pytest.approx(HIGHEST_PENALTY)


def test_training_stops_early_where_the_policy_has_moved_too_far(capsys):
    model = make_model(PPOAdaptiveModel, kl_target=1e-4)
    batch = make_batch(model)
    steps = []
    model.callbacks["mini_batch_end"].append(lambda batch: steps.append(1) and None)
    SingleOpt(model, num_epochs=50, opt_params={"lr": 0.05}).learn_from_batch(batch, step=0)
    assert len(steps) < 50 and model.early_stops == 1 and capsys.readouterr().out == ""
    other = make_model(PPOAdaptiveModel)
    other.load_state_dict(model.state_dict())
    assert other.early_stops == 1
    assert (
        trained(model, make_batch(model), num_epochs=50)["PPOAdaptiveModel/Early Stops"] == 2
    )  # counted, not printed


# ------------------------------------------------------------------------------- acting and networks


@every_space
def test_actions_are_drawn_or_best(action_info):
    model = make_model(PPOClipModel, action_info)
    states = torch.randn(500, 4)
    drawn, best = (
        choose(model=model, state=states.numpy(), step=0)
        for choose in (model.select_action, model.select_best_action)
    )
    assert (
        drawn.shape
        == best.shape
        == {"discrete": (500,), "continuous": (500, 2), "multi_discrete": (500, 3)}[action_info["space"]]
    )
    assert (drawn != best).any()
    mode = torch_dist(model, states)
    if action_info is BRANCHES:
        assert (
            drawn.min() == 0 and drawn.max(0).tolist() == [2, 1, 3] and drawn.dtype == best.dtype == np.int64
        )
        expected = torch.stack([probs.argmax(1) for probs in mode.probs], -1)
    else:
        expected = mode.probs.argmax(1) if action_info is DISCRETE else mode.mean
    torch.testing.assert_close(torch.as_tensor(best), expected)


def test_other_actions_are_refused():
    model = make_model(VanillaPGModel)
    model._action_info = {"space": "text", "shape": 3}
    with pytest.raises(ValueError, match="no distribution for text"):
        model.create_dist(torch.zeros(2, 3))


@pytest.mark.parametrize("cls", POLICIES)
def test_every_policy_trains_on_actions_of_several_branches(cls):
    model = make_model(cls, BRANCHES, entropy_coef=0.01)
    batch = make_batch(model)
    good = (batch.action[:, 0] == 1) & (batch.action[:, 2] == 3)
    batch.advantage = good.float() - good.float().mean()
    before = model.dist_of(batch.state_t).log_prob(batch.action)[good].sum().item()
    SingleOpt(model, num_epochs=3, opt_params={"lr": 0.03}).learn_from_batch(batch, step=0)
    assert good.any() and model.dist_of(batch.state_t).log_prob(batch.action)[good].sum().item() > before


@pytest.mark.parametrize(
    ("name", "convolutions", "width"),
    [("a3c", [(4, 16), (16, 32)], 256), ("dqn", [(4, 32), (32, 64), (64, 64)], 512)],
)
def test_known_networks_come_with_the_package(name, convolutions, width):
    batcher = make_batcher()
    batcher.get_state_info = lambda: {"shape": (4, 84, 84), "space": "continuous", "dtype": "float32"}
    model = PPOClipModel.from_arch(name, batcher, entropy_coef=0.5)
    layers = [layer for layer in model.body.layers if isinstance(layer, nn.Conv2d)]
    assert [
        (layer.in_channels, layer.out_channels) for layer in layers
    ] == convolutions and model.entropy_coef(0) == 0.5
    assert model(torch.zeros(2, 4, 84, 84)).shape == (2, 3) and model.head.layers[0].out_features == width
    activations = [type(layer) for part in (model.body, model.head) for layer in list(part.layers)[1::2]]
    assert set(activations[: len(convolutions) + 1]) == {
        nn.ReLU
    }  # one behind every layer, the last convolution too
    value = ValueModel.from_arch(name, batcher=batcher, body=model.body)
    assert value.body is model.body and value(torch.zeros(2, 4, 84, 84)).shape == (2, 1)
    with pytest.raises(SettingError, match="name must be one of a3c, dqn, got 'a3d'"):
        ValueModel.from_arch("a3d", batcher)


def test_a_model_from_a_file(tmp_path):
    config = Config(
        nn_config=Config(body=[dict(func=nn.Linear, out_features=8), dict(func=nn.Tanh)]), clip_range=0.3
    )
    config.save(tmp_path / "value.yaml")
    model = ValueModel.from_file(tmp_path / "value.yaml", make_batcher())
    assert (
        model.clip_range(0) == 0.3
        and model.body.layers[0].out_features == 8
        and model(torch.zeros(2, 4)).shape == (2, 1)
    )


def test_a_body_is_shared_and_trained_once():
    policy = make_model(PPOClipModel)
    value = ValueModel.from_config(Config(), batcher=make_batcher(), body=policy.body)
    assert value.body is policy.body
    opt = JointOpt([policy, value], opt_fn=torch.optim.SGD, opt_params={"lr": 1.0})
    distinct = {id(parameter) for model in (policy, value) for parameter in model.parameters()}
    assert opt._flat.weights.whole.numel() == sum(p.numel() for p in policy.parameters()) + sum(
        p.numel() for p in value.head.parameters()
    )
    assert len(opt._flat.weights.parameters) == len(distinct)
    batch = make_batch(policy)
    weight = policy.body.layers[0].weight
    run(policy, "train_start", batch)
    run(policy, "mini_batch_start", batch)
    loss = policy.calculate_loss(batch) + value.calculate_loss(batch)
    gradients = dict(
        zip(
            opt._flat.weights.parameters, torch.autograd.grad(loss, opt._flat.weights.parameters), strict=True
        )
    )
    expected = weight.detach() - gradients[weight]
    norm = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm()
    opt.learn_from_batch(batch, step=0)
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-4, atol=1e-6)
    assert opt.metrics["Grad Norm"].item() == pytest.approx(
        norm.item(), rel=1e-4
    )  # a shared parameter counts once


def test_a_configuration_is_used_any_number_of_times_and_a_given_head_gets_no_second_output():
    config = Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=8)]), entropy_coef=0.5)
    first, second = (VanillaPGModel.from_config(config, batcher=make_batcher()) for _ in range(2))
    assert first.entropy_coef(0) == second.entropy_coef(0) == 0.5 and first.body is not second.body
    third = VanillaPGModel.from_config(config, batcher=make_batcher(), head=first.head, entropy_coef=0.1)
    assert third.head is first.head and len(third.head.layers) == 1 and third.entropy_coef(0) == 0.1


def test_a_plain_network_has_no_body():
    model = ValueModel(nn.Linear(4, 1), make_batcher(), cuda_default=False)
    with pytest.raises(SettingError, match="network without a body"):
        _ = model.body
    assert model(torch.zeros(2, 4)).shape == (2, 1) and isinstance(
        make_model(ValueModel).head, SequentialExtended
    )
