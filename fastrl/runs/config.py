"""Settings of a run: one dataclass per algorithm behind the Python API, the command line and config.toml."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fastrl.errors import SettingError, nearest
from fastrl.machine import require_envs, require_threads
from fastrl.runs.plain_values import plain, read_back, written
from fastrl.runs.renamed import find_renamed, value_clip_message, with_new_names
from fastrl.runs.typed_values import NONE_WORDS, convert

if TYPE_CHECKING:
    from fastrl.envs import VectorEnv
    from fastrl.runs.memory import Need

    Environment = Any  # in Python a factory or an object too
else:
    Environment = str  # what files and flags hold

ALGORITHM_KEY = "algorithm"  # the one entry of config.toml that is no field

# (the range in words, whether a value is in it, the settings it holds for)
Ranges = tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...]
RANGES: Ranges = (
    (
        "at least 1",
        lambda value: value >= 1,
        (
            "num_envs",
            "max_episode_steps",
            "total_steps",
            "eval_episodes",
            "eval_max_steps",
            "threads",
            "env_threads",
        ),
    ),
    ("at least 0", lambda value: value >= 0, ("eval_interval", "save_interval", "log_interval")),
    ("in [0, 2^31)", lambda value: 0 <= value < 2**31, ("seed",)),
    ("above 0 seconds and at most 10^6", lambda value: 0 < value <= 1e6, ("env_timeout",)),
    ("finite", math.isfinite, ("stop_at_return",)),
)
LARGEST_WHOLE_NUMBER = 2**53  # logs and files hold numbers as float64
MOST_REPETITIONS = 10**6  # one round of a run would never end
REPEATED = ("eval_episodes", "updates_per_step", "m_steps", "update_epochs", "dae_epochs")
LARGEST_NUMBER = 1e15  # float32 overflows where larger ones are squared
LARGEST_LEARNING_RATE = 1e6


class Unsaid(int):
    """The default of an argument that the configuration has too: it tells "left out" from "given"."""


class TakesEarlierNames(type):
    """Classes of settings whose constructors take the earlier names of `fastrl.runs.renamed` too."""

    def __call__(cls, *args: Any, **settings: Any) -> Any:
        return super().__call__(*args, **new_names(cls, settings, stacklevel=3))

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of `__init__`, which `inspect` would not see behind `__call__`."""
        signature = inspect.signature(cls.__init__)  # type: ignore[misc]
        return signature.replace(parameters=list(signature.parameters.values())[1:])


@dataclass(kw_only=True)
class RunConfig(metaclass=TakesEarlierNames):
    """Settings that every algorithm has; an algorithm adds its own in a subclass.

    Each field's docstring is its help text.
    """

    # defaults of a trainer's documented constructor where they differ from those of the command line
    DOCUMENTED: ClassVar[dict[str, Any]] = {"eval_interval": 0, "save_interval": 0}
    CONTINUOUS_ONLY: ClassVar[bool] = False  # whether the algorithm refuses discrete actions

    env_id: Environment
    """Environment: an EnvPool or Gymnasium id, or module:name, an id, class or function of a module, which is
    imported."""
    obs_keys: tuple[str, ...] | None = None
    """Entries of dict observations to use, in this order; none: all but images."""
    action_mask_key: str | None = None
    """Entry of dict observations that says which discrete actions are allowed, or info.<name> for one of the
    infos; none: all are."""
    max_episode_steps: int | None = None
    """Another time limit of the environment, in steps, ≥ 1; none: its own."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Options of the environment, as name=value; lists and tables as JSON or TOML."""
    num_envs: int = 16
    """Environments stepped together, ≥ 1."""
    seed: int = 1
    """Seeds torch, numpy, environments and sampling, in [0, 2^31)."""
    device: str = "cpu"
    """Where networks and data live: cpu, cuda or cuda:<index>."""
    total_steps: int = 1_000_000
    """Environment steps of the whole run, over all environments, ≥ 1."""
    threads: int | None = None
    """Threads of torch, ≥ 1; none: chosen for the machine and the size of the networks."""
    env_threads: int | None = None
    """Threads that step the environments, ≥ 1; none: chosen for the machine."""
    env_timeout: float | None = None
    """Seconds that a step or reset of all environments may take, > 0; none: no limit. What native code does
    is not interrupted."""
    eval_interval: int = 50_000
    """Environment steps between evaluations; 0: only at the end."""
    eval_episodes: int = 20
    """Episodes of one evaluation, ≥ 1."""
    eval_max_steps: int | None = None
    """Steps after which an evaluation leaves an episode, ≥ 1; none: 10,000 where there is no time limit or
    one above 100,000."""
    stop_at_return: float | None = None
    """End the run at the first evaluation whose mean return reaches this; none: never."""
    save_interval: int = 50_000
    """Environment steps between checkpoints; 0: only at the start and the end."""
    exact_resume: bool = False
    """Begin new episodes after every checkpoint, so that a run that goes on from one equals an uninterrupted
    one, bit for bit on a CPU."""
    log_interval: int = 0
    """Environment steps between rows of metrics.csv; 0: a row per update."""
    track: str | None = None
    """Also send metrics to a service: wandb, or none."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """The settings by name, defaults for the rest.

        Raises: SettingError if one of them is no setting; the message names the nearest.
        """
        settings = new_names(cls, settings, stacklevel=3)
        known = [setting.name for setting in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise SettingError(f"{name} is no setting of {cls.__name__}{nearest(name, known)}")
        return cls(**settings)

    @classmethod
    def documented(cls, **settings: Any) -> Self:
        """These settings, and for the rest the defaults of the trainer's documented constructor; see `of`."""
        return cls.of({**cls.DOCUMENTED, **new_names(cls, settings, stacklevel=3)})

    @classmethod
    def preset(cls, env_id: str) -> dict[str, Any]:
        """Recommended values for an environment by field name; empty when there are none."""
        return {}

    @classmethod
    def fixed_on_resume(cls) -> tuple[str, ...]:
        """Settings that cannot change when a run is continued.

        What the saved state belongs to, or what is used at the start alone.
        """
        observed = ("env_id", "obs_keys", "action_mask_key", "max_episode_steps", "env_kwargs")
        return (*observed, "num_envs", "seed", "exact_resume")

    def check(self) -> None:
        """Raises SettingError, naming the setting, if a value has the wrong type or is out of its range."""
        self.env_kwargs = {} if self.env_kwargs is None else self.env_kwargs
        self.device = str(self.device)  # a torch.device too
        for name, hint in field_types(type(self)).items():
            value = getattr(self, name)
            if name == "env_id" and not isinstance(value, str):
                from fastrl.envs.own import is_environment  # here, since environments load torch

                if not is_environment(value):
                    raise SettingError(
                        f"env_id must be an id, a factory of environments or an environment, got {value!r}"
                    )
                continue
            setattr(self, name, convert(name, hint, value))
        check_ranges(self, RANGES)
        check_magnitudes(self)
        require_envs(self.num_envs)
        require_threads("threads", self.threads)
        require_threads("env_threads", self.env_threads)
        if self.track not in (None, "wandb"):
            raise SettingError(
                f"track must be wandb or none, got {self.track!r}{nearest(str(self.track), ['wandb'])}"
            )
        check_device(self.device)

    def hidden_weights(self) -> int:
        """Weights between hidden layers, the bulk of the parameters: what torch's threads are chosen by."""
        return 0

    def needs(self, env: VectorEnv) -> list[Need]:
        """The memory that a run on these environments will take beside them; an algorithm says its own.

        Networks, rollout, replay.
        """
        return []

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, in order."""
        return {setting.name: getattr(self, setting.name) for setting in dataclasses.fields(self)}

    def unwritten(self) -> list[str]:
        """The settings that a file cannot hold, each with the label that stands there: `env_id (<class:
        mine.Maze>)`."""
        from fastrl.envs.own import label, labels

        found = [] if isinstance(self.env_id, str) else [("env_id", label(self.env_id))]
        found += labels(written(plain(self.env_kwargs)), "env_kwargs")
        return [f"{name} ({text})" for name, text in found]

    def to_toml(self, algorithm: str | None = None) -> str:
        """The settings as TOML text, headed by the algorithm's name if one is given.

        Fields that are None are left out, unless their default is another value: then they are written as
        "none". So is an empty table, which would take in every line that someone adds at the end of the file.
        In place of an environment or option that is an object its label is written (see `unwritten`).
        """
        import tomli_w

        document: dict[str, Any] = {} if algorithm is None else {ALGORITHM_KEY: algorithm}
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            if value is None and setting.default is not None:
                value = NONE_WORDS[0]
            if value is not None and value != {}:
                document[setting.name] = written(plain(value))
        return tomli_w.dumps(document)

    @classmethod
    def from_toml(cls, text: str, source: str = "config.toml") -> Self:
        """The settings that TOML text holds, defaults for the rest.

        Raises: SettingError, naming `source` and the setting, if a key is unknown, a value has the wrong
            type, or env_id is missing.
        """
        values = values_from_toml(cls, text, source)
        if "env_id" not in values:
            raise SettingError(f"{source} does not set env_id")
        return cls(**values)


def new_names(
    config_class: Any,
    settings: Mapping[str, Any],
    *,
    category: type[Warning] = DeprecationWarning,
    stacklevel: int = 2,
) -> dict[str, Any]:
    """Settings of a configuration class by their new names; see `fastrl.runs.renamed.with_new_names`."""
    known = {setting.name for setting in dataclasses.fields(config_class)}
    result = with_new_names(settings, known, category=category, stacklevel=stacklevel + 1)
    if "value_clip_range" in settings and find_renamed("value_clip_range", known):
        clip_coef = result.get("clip_coef", config_class.clip_coef)
        message = value_clip_message(settings["value_clip_range"], clip_coef)
        if message is not None:
            warnings.warn(message, category, stacklevel=stacklevel)
    return result


def values_from_toml(config_class: type[RunConfig], text: str, source: str = "config.toml") -> dict[str, Any]:
    """The fields that TOML text sets, checked for name and type; others are not in the result.

    Raises: SettingError, naming `source` and the setting.
    """
    document = parse_toml(text, source)
    document.pop(ALGORITHM_KEY, None)
    hints = field_types(config_class)
    try:
        document = new_names(config_class, document, category=FutureWarning)  # a category that users see
    except SettingError as error:
        raise SettingError(f"{source}: {error}") from None
    values = {}
    for name, value in document.items():
        if name not in hints:
            raise SettingError(
                f"{source} sets {name!r}, which is no setting of "
                f"{config_class.__name__}{nearest(name, hints)}"
            )
        try:
            values[name] = convert(name, hints[name], read_back(value) if isinstance(value, dict) else value)
        except SettingError as error:
            raise SettingError(f"{source}: {error}") from None
    return values


def parse_toml(text: str, source: str) -> dict[str, Any]:
    """TOML text as a dict; SettingError naming `source` if it is none."""
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also an integer of thousands of digits
        raise SettingError(f"{source} is not valid TOML: {error}") from None


def field_types(config_class: type[RunConfig]) -> Mapping[str, Any]:
    """Type of each field by name, in order."""
    hints = typing.get_type_hints(config_class)
    return {setting.name: hints[setting.name] for setting in dataclasses.fields(config_class)}


def check_ranges(config: RunConfig, ranges: Ranges) -> None:
    """Raises SettingError naming the first setting that is out of its range; None passes."""
    for words, holds, names in ranges:
        for name in names:
            value = getattr(config, name)
            if value is not None and not holds(value):
                raise SettingError(f"{name} must be {words}, got {value}")


def check_magnitudes(config: RunConfig) -> None:
    """Raises SettingError naming the first number that is too large to count or to learn with.

    Whole numbers are at most 2^53, those that say how often a round repeats something (epochs, episodes)
    10^6, others 1e15, learning rates (settings named `..._lr` or `...learning_rate`) 1e6; lists of numbers
    likewise.
    """
    for name, value in config.to_dict().items():
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            words, largest = _largest(name, number)
            if math.isfinite(number) and abs(number) > largest:  # an algorithm's own ranges speak of infinity
                raise SettingError(f"{name} must be at most {words}, got {number}")


def _largest(name: str, number: float) -> tuple[str, float]:
    """The largest value of a setting, in words and as a number."""
    if name in REPEATED:
        return "10^6", MOST_REPETITIONS
    if isinstance(number, int):
        return "2^53", LARGEST_WHOLE_NUMBER
    if name.endswith(("_lr", "learning_rate")):
        return "1e6", LARGEST_LEARNING_RATE
    return "1e15", LARGEST_NUMBER


def find_preset(presets: Mapping[str, dict[str, Any]], env_id: str) -> dict[str, Any]:
    """A copy of an environment's preset; empty when there is none.

    `dm_control/<domain>-<task>` is looked up as EnvPool's id.
    """
    if env_id.startswith("dm_control/"):
        from fastrl.envs.adapters.envpool_ids import dm_control_id

        env_id = dm_control_id(env_id) or env_id
    return dict(presets.get(env_id, {}))


def check_choice(config: RunConfig, name: str, known: tuple[str, ...]) -> None:
    """Raises SettingError, with the nearest one, unless the setting is one of the known words."""
    value = getattr(config, name)
    if value not in known:
        raise SettingError(f"{name} must be {' or '.join(known)}, got {value!r}{nearest(value, known)}")


def check_value_normalization(config: Any) -> None:
    """Raises SettingError unless `value_normalization` is known and goes with estimator and memory."""
    check_choice(config, "value_normalization", ("none", "popart"))
    if config.value_normalization != "none" and config.advantage_estimator == "dae":
        raise SettingError(
            "value_normalization must be none with dae, which fits advantages and values on one scale"
        )
    if config.value_normalization != "none" and config.memory != "none":
        raise SettingError(
            f"value_normalization must be none with memory {config.memory}, whose values are not normalised"
        )


def check_device(device: str) -> None:
    """Raises SettingError unless torch can use `device` here."""
    if device == "cpu":
        return
    import torch

    kind, _, index = device.partition(":")
    if kind != "cuda" or (index and not index.isdigit()) or (":" in device and not index):
        raise SettingError(
            f"device must be cpu, cuda or cuda:<index>, got {device!r}{nearest(device, ['cpu', 'cuda'])}"
        )
    if not torch.cuda.is_available():
        raise SettingError(
            f"device {device!r} cannot be used: torch {torch.__version__} sees no GPU here (see `fastrl "
            "doctor`)"
        )
    if index and int(index) >= torch.cuda.device_count():
        raise SettingError(
            f"device {device!r} does not exist: there are {torch.cuda.device_count()} GPUs, numbered from 0"
        )
