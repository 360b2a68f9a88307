"""Small functions: golden numbers, what goes in stays as it was, and clear refusals."""

import numpy as np
import pytest
import torch
from torch import nn

import fastrl.envs
from fastrl.errors import SettingError
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.utils import (
    EPSILON,
    env_from_config,
    explained_var,
    get_obj,
    join_transitions,
    linear_schedule,
    make_callable,
    normalize,
    one_hot,
    piecewise_linear_schedule,
    to_np,
    to_tensor,
)


def test_objects_from_configurations_that_stay_as_they_are():
    for config in (
        dict(out_features=2, func=nn.Linear, in_features=3),
        Config(out_features=2, func="torch.nn.Linear", in_features=3),
    ):
        before = list(config.items())
        one, other = get_obj(config), get_obj(config)
        assert type(one) is nn.Linear and one.weight.shape == (2, 3) and one is not other
        assert list(config.items()) == before
    for config in ({}, dict(func=3), Config(a=1)):
        with pytest.raises(SettingError, match="config must have 'func', a class or its dotted name"):
            get_obj(config)


class StubEnv:
    def __init__(self, env_name, state_info=None):
        self.env_name, self.state_info = env_name, state_info

    def update_config(self, config):
        config.new_section("env", func=StubEnv, env_name=self.env_name, state_info=self.state_info)


def test_an_environment_makes_the_round_trip():
    config = Config()
    StubEnv("Stub-v0", {"shape": [3]}).update_config(config)
    config.env.num_envs = 4  # for the batcher
    env = env_from_config(config)
    assert env.env_name == "Stub-v0" and env.state_info == {"shape": [3]} and config.env.num_envs == 4
    again = Config()
    env.update_config(again)
    again.env.num_envs = 4
    assert again == config
    with pytest.raises(AttributeError, match="no section 'env'"):
        env_from_config(Config())


@pytest.mark.skipif(not hasattr(fastrl.envs, "GymEnv"), reason="fastrl.envs.GymEnv is not there yet")
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_an_environment_makes_the_round_trip_through_a_file(tmp_path, suffix):
    config = Config()
    fastrl.envs.GymEnv("CartPole-v1").update_config(config)
    config.save(tmp_path / f"c.{suffix}")
    env = env_from_config(Config.load(tmp_path / f"c.{suffix}"))
    assert type(env) is fastrl.envs.GymEnv and env.env_name == "CartPole-v1"
    env.close()
    env_from_config(Config.from_default("PPOClip")).close()


def test_transitions_are_joined():
    transitions = [
        dict(state=np.full(3, i), reward=float(i), value=torch.tensor([i]), done=i == 1) for i in range(2)
    ]
    joined = join_transitions(transitions)
    assert list(joined) == ["state", "reward", "value", "done"]
    assert (
        joined["state"].shape == (2, 3)
        and joined["reward"].tolist() == [0.0, 1.0]
        and joined["done"].dtype == bool
    )
    assert isinstance(joined["value"], torch.Tensor) and joined["value"].tolist() == [[0], [1]]
    assert join_transitions([]) == {}
    with pytest.raises(
        ValueError, match=r"transitions must have the same keys, \['a'\]; number 1 has \['b'\]"
    ):
        join_transitions([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="transitions: 'a' cannot be stacked"):
        join_transitions([{"a": np.zeros(2)}, {"a": np.zeros(3)}])


def test_to_np_takes_what_holds_numbers():
    tensor = torch.ones(2, requires_grad=True)
    for value in (
        3,
        2.5,
        True,
        np.float32(1),
        np.ones(2),
        tensor,
        tensor.bfloat16(),
        [1, 2],
        (tensor, tensor),
        iter([1, 2]),
        range(3),
        [],
    ):
        assert isinstance(to_np(value), np.ndarray)
    assert to_np([tensor, tensor]).shape == (2, 2) and to_np([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
    assert to_np({"a": tensor})["a"].tolist() == [1.0, 1.0]
    ragged = to_np([[1, 2], [3]])
    assert ragged.dtype == object and ragged[0].tolist() == [1, 2] and ragged[1].tolist() == [3]
    array = np.ones(2)
    assert to_np(array) is array
    with pytest.raises(TypeError, match="value must be numbers, arrays or tensors, got object"):
        to_np(object())


def test_to_tensor():
    assert (
        to_tensor(np.zeros(2)).dtype == torch.float32
        and to_tensor([True]).dtype == torch.bool
        and to_tensor(1).dtype == torch.int64
    )
    assert to_tensor(np.zeros(2, np.uint8)).dtype == torch.uint8


@pytest.mark.parametrize(
    "make", [list, np.array, torch.tensor, lambda x: torch.tensor(x, dtype=torch.float64)]
)
def test_explained_variance(make):
    target, preds = make([1.0, 2.0, 3.0, 4.0]), make([1.1, 1.9, 3.2, 3.8])
    found = explained_var(target, preds)
    assert type(found) is float and found == pytest.approx(0.98, abs=1e-6)
    assert explained_var(target, target) == 1.0 and explained_var(make([2.0, 2.0]), make([1.0, 2.0])) == 0.0


def test_explained_variance_of_a_column_is_that_of_its_numbers():
    target = torch.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    preds = torch.tensor([[1.1], [1.9], [3.2], [3.8]])  # [4, 4] if they were broadcast
    assert explained_var(target, preds) == pytest.approx(0.98, abs=1e-6)
    with pytest.raises(ValueError, match="preds must have as many elements as target, 4, got 3"):
        explained_var(target, preds[:3])


def test_normalize():
    array = np.array([1.0, 2.0, 3.0])
    for value in (array, torch.tensor(array)):
        found = normalize(value)
        assert type(found) is type(value)
        np.testing.assert_allclose(found, [-1.224745, 0, 1.224745], atol=1e-6)
    assert array.tolist() == [1.0, 2.0, 3.0] and EPSILON == 1e-7
    assert normalize(np.full(3, 2.0)).tolist() == [0.0, 0.0, 0.0] and normalize(torch.ones(1)).tolist() == [
        0.0
    ]


def test_one_hot():
    expected = [[[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]]]
    assert (
        one_hot([[2], [0]], 3).tolist() == expected and one_hot(np.array([[2], [0]]), 3).dtype == np.float32
    )
    tensor = one_hot(torch.tensor([[2], [0]]), 3)
    assert (
        isinstance(tensor, torch.Tensor)
        and tensor.tolist() == expected
        and one_hot(np.zeros(0, np.int64), 3).shape == (0, 3)
    )
    for wrong in ([3], [-1]):
        with pytest.raises(ValueError, match=r"array must be in \[0, 3\)"):
            one_hot(wrong, 3)
    with pytest.raises(ValueError, match="array must hold whole numbers, got torch.float64"):
        one_hot([1.0], 3)


def test_make_callable():
    function = linear_schedule(1, 0, 10)
    assert (
        make_callable(function) is function and make_callable(0.5)(7) == 0.5 and make_callable(None)() is None
    )
    first, second = make_callable([1, function])
    assert first(3) == 1 and second is function
    assert make_callable("text")(step=1) == "text"


def test_linear_schedule_is_constant_outside_its_steps():
    schedule = linear_schedule(1.0, 0.2, 20, initial_step=10)
    assert [schedule(step) for step in (0, 10, 15, 20, 1000)] == pytest.approx([1.0, 1.0, 0.6, 0.2, 0.2])
    assert schedule(20) == 0.2 and linear_schedule(3, 1, 4)(2) == 2.0
    with pytest.raises(SettingError, match="final_step must be after initial_step, 5, got 5"):
        linear_schedule(1, 0, 5, 5)


def test_piecewise_linear_schedule():
    schedule = piecewise_linear_schedule([1.0, 0.5, 0.1], [10, 20])
    assert [schedule(step) for step in (-5, 0, 5, 10, 15, 20, 99)] == pytest.approx(
        [1.0, 1.0, 0.75, 0.5, 0.3, 0.1, 0.1]
    )
    assert piecewise_linear_schedule([2.0], [])(5) == 2.0
    with pytest.raises(SettingError, match="values must be one more than boundaries, 3, got 2"):
        piecewise_linear_schedule([1, 2], [1, 2])
    with pytest.raises(SettingError, match="boundaries must rise, beginning above 0"):
        piecewise_linear_schedule([1, 2, 3], [2, 2])
