"""Environments by `module:name`: ids, classes and functions of modules, and what is said otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import pytest

from fastrl.envs import GymEnv, make_vector_env
from fastrl.envs.make import make_gymnasium_env
from fastrl.envs.modules import imports_refused, list_module
from fastrl.errors import SettingError

MAZE = """
import gymnasium as gym, numpy as np
from walls import HEIGHT  # of the same folder

class Maze(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)
    def __init__(self, size=HEIGHT):
        self.size = size
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 0
        return np.zeros(3, np.float32), {}
    def step(self, action):
        self.n += 1
        return np.zeros(3, np.float32), 1.0, False, self.n >= self.size, {}

def make(size=2):
    return gym.vector.SyncVectorEnv([lambda: Maze(size)] * 3)

number = 3
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules into the present folder, outside Python's path; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    modules, ids = set(sys.modules), set(gym.registry)
    yield lambda name, text: tmp_path.joinpath(f"{name}.py").write_text(text) and None
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    for env_id in set(gym.registry) - ids:
        del gym.registry[env_id]


@pytest.fixture
def maze(write: Callable[[str, str], None]) -> None:
    write("walls", "HEIGHT = 4")
    write(
        "maze",
        MAZE + 'gym.register("Maze-v0", Maze)\ngym.register("Lazy-v0", "lazy:Lazy", kwargs={"size": 5})',
    )
    write("lazy", "from maze import Maze as Lazy")


@pytest.mark.parametrize(
    ("name", "num_envs", "length"),
    [("maze:Maze-v0", 2, 4), ("maze:Lazy-v0", 2, 5), ("maze:Maze", 2, 4), ("maze:make", 3, 2)],
)
def test_a_module_of_the_present_folder_gives_ids_classes_and_functions(
    maze: None, name: str, num_envs: int, length: int
) -> None:
    before = list(sys.path)
    for options, expected in (({}, length), ({"size": 6}, 6)):
        with make_vector_env(name, num_envs, env_kwargs=options) as env:
            env.reset()
            ends = [
                bool(env.step(env.action.check([0] * num_envs, num_envs)).truncated[0])
                for _ in range(expected)
            ]
        assert ends == [False] * (expected - 1) + [True]
    assert sys.path == before


def test_single_environments_of_modules(maze: None) -> None:
    for name in ("maze:Maze-v0", "maze:Maze"):
        single = make_gymnasium_env(name, options={"size": 3})
        assert type(single.unwrapped).__name__ == "Maze" and single.unwrapped.size == 3
        assert make_gymnasium_env(name, options={"num_actions": 1}).action_space.n == 1
        with GymEnv(name, wrappers=[lambda env: env], size=2) as env:
            env.reset()
            assert [env.step(0)[2] for _ in range(2)] == [False, True]
    with pytest.raises(SettingError, match="factory of SyncVectorEnv; for a single environment"):
        make_gymnasium_env("maze:make")


def test_what_a_module_registers_is_listed(maze: None) -> None:
    assert list_module("maze") == list_module("maze") == ["Lazy-v0", "Maze-v0"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nowhere:Maze-v0",
            r"there is no module 'nowhere', neither in the present folder, /.*, nor where Python looks$",
        ),
        ("maze.inside:Maze-v0", r"there is no module 'maze.inside'"),
        (
            "broken:Maze-v0",
            r"the module 'broken' cannot be imported: ModuleNotFoundError: No module named "
            r"'package_that_is_missing'$",
        ),
        ("spelled:Maze-v0", r"the module 'spelled' cannot be imported: SyntaxError: .*line 1"),
        ("leaves:Maze-v0", r"the module 'leaves' cannot be imported: SystemExit: 3$"),
        (
            "maze:Maze-v1",
            r"the module 'maze' has no environment 'Maze-v1': it registers Lazy-v0, Maze-v0; did you mean "
            r"'Maze-v0'\?$",
        ),
        ("maze:number", r"the module 'maze' has no environment 'number': it registers Lazy-v0, Maze-v0$"),
        (
            "walls:Maze-v0",
            r"the module 'walls' has no environment 'Maze-v0': it registers none, and has no class or "
            r"function of that name$",
        ),
        (":Maze-v0", r"'module:name' needs the full name of a module, got ''$"),
        (".maze:Maze-v0", r"'module:name' needs the full name of a module, got '.maze'$"),
        ("maze:HEIGHT", r"the module 'maze' has no environment 'HEIGHT'"),
    ],
)
def test_each_trouble_with_a_module_has_a_sentence_of_its_own(
    maze: None, write: Callable[[str, str], None], name: str, message: str
) -> None:
    write("broken", "import package_that_is_missing")
    write("spelled", "def (")
    write("leaves", "raise SystemExit(3)")
    with pytest.raises(SettingError, match=f"^env_id: {message}"):
        make_vector_env(name)


def test_while_imports_are_refused_no_module_is_imported(maze: None) -> None:
    with imports_refused("say please"):
        for make in (make_vector_env, make_gymnasium_env, GymEnv):
            with pytest.raises(
                SettingError,
                match="'maze:Maze' would import the module 'maze', which runs its code; say please",
            ):
                make("maze:Maze")
        assert "maze" not in sys.modules
        with imports_refused(None):
            make_vector_env("maze:Maze").close()
        with pytest.raises(SettingError, match="say please"):
            list_module("maze")


@pytest.mark.parametrize("name", ["gymnasium:maze:Maze-v0", "maze:gymnasium:Maze-v0"])
def test_no_other_spelling_imports_a_module(maze: None, name: str) -> None:
    with imports_refused("say please"), pytest.raises(SettingError):
        make_vector_env(name)
    assert "maze" not in sys.modules


def test_no_environment_imports_a_module_to_make_another_one(maze: None) -> None:
    with (
        imports_refused("say please"),
        pytest.raises(SettingError, match="'maze:Maze-v0' would import the module 'maze'.*say please"),
    ):
        make_vector_env("gymnasium:GymV26Environment-v0", env_kwargs={"env_id": "maze:Maze-v0"})


def test_gymnasium_itself_imports_a_module_only_where_it_is_named_with_a_colon(maze: None) -> None:
    with pytest.raises(gym.error.Error):
        gym.spec("maze:Maze-v0")
    assert "maze" not in sys.modules
