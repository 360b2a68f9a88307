"""Optimisers of the toolkit: mini-batches, callbacks, coefficients, schedules."""

import copy
import math
from collections import defaultdict

import pytest
import torch
from torch import nn

from fastrl.errors import NonFiniteError, SettingError
from fastrl.toolkit.batchers import Batch
from fastrl.toolkit.optimizers import JointOpt, ListOpt, SingleOpt


class Line(nn.Module):
    """y = w x, fitted to the batch's target; notes what happens."""

    name = "Line"
    batch_keys = ["state_t", "vtarget"]

    def __init__(self, weight=0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([weight]))
        self.callbacks = defaultdict(list)
        self.seen = []
        for event in ("train_start", "epoch_start", "mini_batch_end", "epoch_end", "train_end", "cleanup"):
            self.callbacks[event].append(lambda batch, event=event: self.seen.append(event))

    def calculate_loss(self, batch):
        self.seen.append(("step", batch.idxs.tolist(), sorted(batch)))
        return 0.5 * (self.weight * batch.state_t - batch.vtarget).square().mean()


def make_batch(rows=10):
    return Batch(state_t=torch.ones(rows), vtarget=torch.arange(float(rows)), extra=torch.zeros(rows))


def steps_of(model):
    return [entry for entry in model.seen if isinstance(entry, tuple)]


def test_mini_batches_cover_every_row_once_in_each_epoch_and_differ_by_one_at_most():
    model = Line()
    SingleOpt(model, num_epochs=3, num_mini_batches=4).learn_from_batch(make_batch(), step=0)
    steps = steps_of(model)
    assert len(steps) == 12 and all(keys == ["idxs", "state_t", "vtarget"] for _, _, keys in steps)
    for epoch in range(3):
        chunks = [idxs for _, idxs, _ in steps[4 * epoch : 4 * epoch + 4]]
        assert sorted(sum(chunks, [])) == list(range(10)) and {len(chunk) for chunk in chunks} == {2, 3}
    assert sum((idxs for _, idxs, _ in steps[:4]), []) != sum((idxs for _, idxs, _ in steps[4:8]), [])


def test_one_mini_batch_is_the_batch_in_its_order():
    model = Line()
    SingleOpt(model).learn_from_batch(make_batch(), step=0)
    assert steps_of(model)[0][1] == list(range(10))


def test_events_come_in_order():
    model = Line()
    SingleOpt(model, num_epochs=2).learn_from_batch(make_batch(), step=0)
    names = [entry if isinstance(entry, str) else "step" for entry in model.seen]
    epoch = ["epoch_start", "step", "mini_batch_end", "epoch_end"]
    assert names == ["train_start", *epoch, *epoch, "train_end", "cleanup"]


@pytest.mark.parametrize(
    ("event", "steps", "ends"),
    [
        ("train_start", 0, False),
        ("epoch_start", 0, True),
        ("mini_batch_end", 2, True),
        ("epoch_end", 3, True),
    ],
)
def test_a_callback_that_returns_true_ends_what_it_is_in(event, steps, ends):
    model = Line()
    model.callbacks[event].append(lambda batch: True)
    SingleOpt(model, num_epochs=2, num_mini_batches=3).learn_from_batch(make_batch(), step=0)
    assert len(steps_of(model)) == steps
    assert ("train_end" in model.seen) == ends and model.seen[-1] == "cleanup"


def test_joint_losses_are_added_with_their_coefficients_zero_included():
    first, second = Line(), Line()
    opt = JointOpt([first, second], opt_fn=torch.optim.SGD, opt_params={"lr": 1.0}, loss_coef=[2.0, 0])
    opt.learn_from_batch(make_batch(), step=0)
    assert first.weight.item() == pytest.approx(2 * 4.5) and second.weight.item() == 0.0
    opt = JointOpt(
        [Line(), Line()], opt_fn=torch.optim.SGD, opt_params={"lr": 1.0}, loss_coef=[lambda step: step, 1.0]
    )
    opt.learn_from_batch(make_batch(), step=3)
    assert opt.models[0].weight.item() == pytest.approx(3 * 4.5)


def test_a_coefficient_of_zero_is_zero_for_a_single_model_too():
    model = Line(1.0)
    SingleOpt(model, opt_fn=torch.optim.SGD, opt_params={"lr": 1.0}, loss_coef=0).learn_from_batch(
        make_batch(), step=0
    )
    assert model.weight.item() == 1.0


def test_the_gradient_of_all_is_clipped_together():
    first, second = Line(), Line()
    opt = JointOpt([first, second], opt_fn=torch.optim.SGD, opt_params={"lr": 1.0}, clip_grad_norm=1.0)
    opt.learn_from_batch(make_batch(), step=0)
    assert math.hypot(first.weight.item(), second.weight.item()) == pytest.approx(1.0, rel=1e-4)
    assert opt.metrics["Grad Norm"].item() == pytest.approx(4.5 * math.sqrt(2))


def test_the_learning_rate_follows_its_schedule():
    model = Line()
    opt = SingleOpt(
        model, opt_fn=torch.optim.SGD, opt_params={"lr": 5.0}, lr_schedule=lambda step: 0.1 * step
    )
    opt.learn_from_batch(make_batch(), step=2)
    assert model.weight.item() == pytest.approx(0.2 * 4.5)


def test_a_list_trains_one_behind_the_other_and_keeps_its_state():
    def make():
        return ListOpt(
            [
                SingleOpt(Line(), num_epochs=2, opt_params={"lr": 0.1}),
                SingleOpt(Line(), opt_params={"lr": 0.2}),
            ]
        )

    first, second = make(), make()
    first.learn_from_batch(make_batch(), step=0)
    assert [len(steps_of(model)) for model in first.models] == [2, 1]
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for mine, its in zip(second.models, first.models, strict=True):
        mine.load_state_dict(its.state_dict())
    for opt in (first, second):
        opt.learn_from_batch(make_batch(), step=1)
    assert [model.weight.item() for model in first.models] == [model.weight.item() for model in second.models]


def test_a_step_that_is_not_finite_is_not_taken():
    model = Line(1.0)
    batch = make_batch()
    batch.vtarget[3] = float("nan")
    with pytest.raises(
        NonFiniteError, match="SingleOpt/Line: loss or gradient not finite at environment step 7"
    ):
        SingleOpt(model).learn_from_batch(batch, step=7)
    assert model.weight.item() == 1.0
    assert model.seen[-1] == "cleanup" and "train_end" not in model.seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_epochs": 0}, "num_epochs must be at least 1"),
        ({"num_mini_batches": 0}, "num_mini_batches must be at least 1"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm must be above 0"),
        ({"loss_coef": [1.0, 2.0]}, "loss_coef must have a value for each of the 1 models, got 2"),
    ],
)
def test_bad_settings_are_named(settings, message):
    with pytest.raises(SettingError, match=message):
        SingleOpt(Line(), **settings)


def test_fewer_rows_than_mini_batches_are_one_row_each_and_none_are_left_alone():
    model = Line()
    optimizer = SingleOpt(model, num_mini_batches=11)
    optimizer.learn_from_batch(make_batch(3), step=0)
    assert sorted(idxs for _, idxs, _ in steps_of(model)) == [[0], [1], [2]]
    model.seen.clear()
    optimizer.learn_from_batch(make_batch(0), step=0)
    assert model.seen == []


def test_frozen_parameters_stay_where_they_are():
    first, second = Line(1.0), Line(1.0)
    first.weight.requires_grad_(False)
    JointOpt(
        [first, second], opt_fn=torch.optim.AdamW, opt_params={"lr": 0.1, "weight_decay": 0.5}
    ).learn_from_batch(make_batch(), step=0)
    assert first.weight.item() == 1.0 != second.weight.item()
    with pytest.raises(SettingError, match="models must have a parameter to train"):
        SingleOpt(first)


def test_models_that_share_parameters_cannot_be_trained_one_behind_the_other():
    first, second = Line(), Line()
    second.weight = first.weight
    with pytest.raises(
        SettingError, match="opts train a parameter twice: models that share a body belong into one JointOpt"
    ):
        ListOpt([SingleOpt(first), SingleOpt(second)])
