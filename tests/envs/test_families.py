"""The table of environment families: who has an id or an object, and what each family can make of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium as gym
import pytest

from fastrl.envs import EnvId, make_vector_env
from fastrl.envs.adapters.envpool_ids import envpool_ids
from fastrl.envs.families import FAMILIES, Family, env_source, family_of, list_env_ids
from fastrl.envs.families.ids import (
    ID_FAMILIES,
    EnvPoolIds,
    GymnasiumIds,
    MaskedIds,
    PrefixedGymnasiumIds,
    Toys,
)
from fastrl.envs.families.objects import Factories, GymnasiumEnvs, GymnasiumVectors, ModuleNames, VectorEnvs
from fastrl.envs.make import make_gymnasium_env
from fastrl.envs.toys.vector import ToyVectorEnv
from fastrl.envs.vector_settings import VectorSettings
from fastrl.errors import SettingError


def cartpole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


@pytest.mark.parametrize(
    ("make", "kind", "source"),
    [
        (lambda: "Identity-v0", Toys, "fastrl"),
        (lambda: "MaskedCartPole-v1", MaskedIds, "fastrl"),
        (lambda: "CartPole-v1", EnvPoolIds, "envpool"),
        (lambda: "dm_control/cartpole-swingup", EnvPoolIds, "envpool"),
        (lambda: "gymnasium:CartPole-v1", PrefixedGymnasiumIds, "gymnasium"),
        (lambda: "GymV21Environment-v0", GymnasiumIds, "gymnasium"),
        (lambda: "NoSuch-v0", GymnasiumIds, "gymnasium"),
        (lambda: "own_environment:Maze-v0", ModuleNames, "gymnasium"),
        (lambda: cartpole, Factories, "gymnasium"),
        (cartpole, GymnasiumEnvs, "gymnasium"),
        (lambda: gym.make_vec("CartPole-v1", 2), GymnasiumVectors, "gymnasium"),
        (lambda: ToyVectorEnv("Counter-v0"), VectorEnvs, "gymnasium"),
    ],
)
def test_the_first_family_that_has_it_makes_it(make: Any, kind: type[Family], source: str) -> None:
    env = make()
    family = family_of(env)
    assert type(family) is kind and family.source == source
    if isinstance(env, str):
        assert env_source(env) == source


def test_every_family_stands_in_the_table_once() -> None:
    kinds = [type(family) for family in FAMILIES]
    assert len(set(kinds)) == len(kinds) == 10


@pytest.mark.parametrize("family", ID_FAMILIES, ids=lambda family: type(family).__name__)
def test_a_family_has_the_ids_that_it_lists(family: Family) -> None:
    ids = family.ids()
    assert ids and len(set(ids)) == len(ids) and all(family.has(env_id) for env_id in ids[::50])


def test_an_id_is_listed_under_the_family_that_makes_it() -> None:
    listed = [*list_env_ids(), *list_env_ids("gymnasium:")]
    assert len({entry.env_id for entry in listed}) == len(listed)
    for entry in listed[::40]:
        assert entry == EnvId(entry.env_id, family_of(entry.env_id).source)


def test_a_family_of_its_own_needs_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Toys):
        source = "mine"

        def has(self, env: Any) -> bool:
            return env == "Mine-v0"

        def make_vector(self, env: Any, settings: VectorSettings) -> Any:
            return super().make_vector("Counter-v0", settings)

    monkeypatch.setattr("fastrl.envs.families.FAMILIES", (Mine(), *FAMILIES))
    assert env_source("Mine-v0") == "mine"
    with make_vector_env("Mine-v0", 3) as env:
        assert env.num_envs == 3 and env.reset().shape == (3, 1)
    single = make_gymnasium_env("Mine-v0", max_episode_steps=2)
    single.reset(seed=0)
    assert [single.step(0)[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize("make", [lambda: gym.make_vec("CartPole-v1", 2), lambda: ToyVectorEnv("Counter-v0")])
def test_no_single_environment_is_made_from_several(make: Any) -> None:
    with pytest.raises(SettingError, match="a single environment is made from an id"):
        make_gymnasium_env(make())


def test_toys_need_no_simulator() -> None:
    code = (
        "import sys, fastrl.envs; fastrl.envs.make_vector_env('Counter-v0');"
        "print({'gymnasium', 'envpool'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_masked_environments_are_listed_where_envpool_has_what_they_are_made_of(monkeypatch):
    assert MaskedIds().ids() == (["MaskedCartPole-v1"] if "CartPole-v1" in envpool_ids() else [])
    monkeypatch.setattr("fastrl.envs.families.ids.envpool_ids", lambda: [])
    assert MaskedIds().ids() == []
