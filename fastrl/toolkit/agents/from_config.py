"""A policy-gradient agent from one configuration, which a file can hold."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastrl.envs.modules import imports_refused
from fastrl.errors import SettingError, nearest
from fastrl.runs.seeding import seed_everything
from fastrl.toolkit.agents.pg_agent import PGAgent
from fastrl.toolkit.batchers import RolloutBatcher
from fastrl.toolkit.batchers.transforms import Transform, atari_transforms, mujoco_transforms
from fastrl.toolkit.models import AdvantageModel, BasePGModel, ValueModel
from fastrl.toolkit.optimizers import JointOpt, ListOpt, SingleOpt
from fastrl.toolkit.utils.config import Config
from fastrl.toolkit.utils.dotted import is_schedule, resolve
from fastrl.toolkit.utils.estimators.advantage import DAE
from fastrl.toolkit.utils.estimators.rollout import Estimator
from fastrl.toolkit.utils.net_builder import packaged_arch
from fastrl.toolkit.utils.utils import HOW_TO_TRUST, env_from_config, get_func, get_obj

REQUIRED = ("batch_size", "policy_model", "optimizer")
OPTIONAL = (
    *(
        "env",
        "seed",
        "device",
        "transforms",
        "policy_nn_config",
        "value_nn_config",
        "value_model",
        "shared_body",
    ),
    *("advantage_nn_config", "advantage_model", "advantage_optimizer"),
    *("value_optimizer", "advantage", "vtarget", "normalize_advantages", "max_steps"),
)
BUNDLES = {"atari": atari_transforms, "mujoco": mujoco_transforms}


def agent_from_config(
    config: Config | str | Path, *, env: Any = None, log_dir: str | Path | None = "runs", trust: bool = False
) -> PGAgent:
    """A `PGAgent` ready to train, with batcher, models and optimiser as a configuration describes them.

    The configuration is not changed.

    Entries, of which batch_size, policy_model and optimizer are required; what is built has `func`, a class
    or its dotted name, and the arguments of it; an argument that is a mapping with `func` itself, a schedule
    for example, is built first:

    - env: `func`, `env_name`, options, `num_envs` (default 1): what is stepped;
    - seed: of the environments (default 0) and, if it is there, of all random generators before anything is
      built;
    - device: of networks and batches, "cpu" by default;
    - batch_size, transforms: of `RolloutBatcher`; transforms are a list of objects, or "atari" or "mujoco";
    - policy_model, value_model: the models; without value_model there is none;
    - advantage_model: an `AdvantageModel`, for direct advantage estimation; advantage_optimizer has the
      settings of `SingleOpt` over it and the value model, optimizer trains the policy alone, and advantage,
      vtarget and shared_body are left out;
    - policy_nn_config, value_nn_config, advantage_nn_config: their networks, `body` and `head` as lists of
      layers, or a name, "a3c" or "dqn"; without them a model is one linear layer;
    - shared_body: true gives the value model the body of the policy in place of its own;
    - optimizer: settings of `JointOpt` over both models; where value_optimizer is there too, of `SingleOpt`
      over the policy alone;
    - advantage, vtarget, normalize_advantages: of `PGAgent`;
    - max_steps: not read here; for `agent.train(max_steps=config.max_steps)`.

    `Config.from_default` gives such configurations.

    Args:
        config: the configuration, or the path of a file that holds one.
        env: environments in place of the configuration's, as `RolloutBatcher` takes them.
        log_dir: folder of the logs; None writes none.
        trust: import the module of an `env_name` like "module:Id-v0", which runs its code; in `env` your own
            naming is enough.

    Raises:
        SettingError: an entry is unknown, is missing, or cannot be used; the message begins with its name.
        OSError: the file cannot be read.
    """
    if not isinstance(config, Config):
        config = Config.load(config)
    _check_names(config)
    with imports_refused(None if trust else HOW_TO_TRUST):
        return _agent(config, env, log_dir, trust)


def _agent(config: Config, env: Any, log_dir: str | Path | None, trust: bool) -> PGAgent:
    if config.get("seed") is not None:
        with _entry("seed"):
            seed_everything(config.seed)
    batcher = _batcher(config, env, trust)
    policy = _model(config, "policy", BasePGModel, batcher)
    value = None
    if config.get("value_model") is not None:
        value = _model(
            config,
            "value",
            ValueModel,
            batcher,
            body=policy.body if _flag(config, "shared_body", False) else None,
        )
    direct = config.get("advantage_model") is not None
    return PGAgent(
        batcher,
        policy_model=policy,
        value_model=value,
        optimizer=_optimizer(config, policy, None if direct else value),
        normalize_advantages=_flag(config, "normalize_advantages", True),
        advantage=_direct_advantages(config, batcher, value) if direct else _estimator(config, "advantage"),
        vtarget=_estimator(config, "vtarget"),
        log_dir=log_dir,
    )


def _check_names(config: Config) -> None:
    known = REQUIRED + OPTIONAL
    for name in config:
        if name not in known:
            raise SettingError(f"{name} is no entry of an agent's configuration{nearest(name, known)}")
    for name in REQUIRED:
        if config.get(name) is None:
            raise SettingError(f"{name} is missing in the configuration")
    if _flag(config, "shared_body", False) and config.get("value_model") is None:
        raise SettingError("shared_body: there is no value_model to share the body with")
    if _flag(config, "shared_body", False) and config.get("value_optimizer") is not None:
        raise SettingError(
            "value_optimizer: a shared body is trained by one optimizer; leave out this entry or shared_body"
        )
    if config.get("advantage_model") is None:
        return
    if config.get("value_model") is None:
        raise SettingError("advantage_model: there is no value_model to fit together with it")
    for name in ("advantage", "value_optimizer", "vtarget"):
        if config.get(name) is not None:
            raise SettingError(
                f"{name} must be left out where there is an advantage_model, which estimates advantages and "
                "fits values"
            )
    if _flag(config, "shared_body", False):
        raise SettingError(
            "shared_body must be false where there is an advantage_model, which fits values before the "
            "policy moves"
        )


@contextmanager
def _entry(name: str) -> Iterator[None]:
    """What goes wrong inside is said to be the entry's fault. Nothing but constructors runs there, so any
    such error is."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise SettingError(
            str(error) if str(error).startswith((f"{name} ", f"{name}:")) else f"{name}: {error}"
        ) from error


def _built(value: Any) -> Any:
    """A value of a configuration; mappings with `func`, also in lists and below, are the objects they
    describe.

    Raises:
        SettingError: the name of anything but a schedule is there. (Who writes Python may put in classes and
            functions of any kind.)
    """
    if isinstance(value, list | tuple):
        return [_built(entry) for entry in value]
    if not isinstance(value, Config | Mapping):
        return value
    if isinstance(value.get("func"), str) and not is_schedule(resolve(value["func"])):
        raise SettingError(f"func of an argument must be a schedule of fastrl.utils, got {value['func']}")
    built = {name: _built(entry) for name, entry in value.items()}
    return get_obj(built) if "func" in built else built


def _arguments(value: Any) -> dict[str, Any]:
    """The arguments in a mapping, built, without `func` itself."""
    if not isinstance(value, Config | Mapping):
        raise SettingError(f"must be a mapping, got {value!r}")
    return {name: _built(entry) for name, entry in value.items() if name != "func"}


def _class_of(value: Any, kind: type) -> Any:
    """The class that `func` of a mapping names.

    Raises:
        SettingError: it is not of that kind.
    """
    if not isinstance(value, Config | Mapping):
        raise SettingError(f"must be a mapping with 'func', got {value!r}")
    found = get_func(value)
    if not (inspect.isclass(found) and issubclass(found, kind)):
        raise SettingError(
            f"func must be a subclass of {kind.__name__}, got {getattr(found, '__name__', found)}"
        )
    return found


def _batcher(config: Config, env: Any, trust: bool) -> RolloutBatcher:
    named = env is not None
    with _entry("env"):
        num_envs = _whole("num_envs", (config.get("env") or {}).get("num_envs", 1))
        env = env if named else env_from_config(config, trust=trust)
    with _entry("transforms"):
        transforms = _transforms(config.get("transforms") or [])
    with _entry("device"):
        device = torch.device(config.get("device", "cpu"))
    size = _whole("batch_size", config.batch_size)
    with imports_refused(None) if named else nullcontext():
        return RolloutBatcher(
            env, size, transforms=transforms, num_envs=num_envs, seed=config.get("seed") or 0, device=device
        )


def _flag(config: Config, name: str, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise SettingError(f"{name} must be true or false, got {value!r}")
    return value


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SettingError(f"{name} must be a whole number of at least 1, got {value!r}")
    return value


def _transforms(given: Any) -> list[Transform]:
    if isinstance(given, str):
        if given not in BUNDLES:
            raise SettingError(
                f"must be a list, or one of {', '.join(BUNDLES)}, got {given!r}{nearest(given, BUNDLES)}"
            )
        return list(BUNDLES[given]())
    if not isinstance(given, list | tuple):
        raise SettingError(f"must be a list, or one of {', '.join(BUNDLES)}, got {given!r}")
    return [_class_of(entry, Transform)(**_arguments(entry)) for entry in given]


def _model(
    config: Config,
    role: str,
    kind: type,
    batcher: RolloutBatcher,
    body: nn.Module | None = None,
    **given: Any,
) -> Any:
    """The model of a role, "policy", "value" or "advantage", on the configuration's device; `given` are
    arguments besides the entry's."""
    settings, network = config[f"{role}_model"], config.get(f"{role}_nn_config") or Config()
    with _entry(f"{role}_model"):
        model_class, arguments = _class_of(settings, kind), _arguments(settings)
    with _entry(f"{role}_nn_config"):
        if isinstance(network, str):
            network = packaged_arch(network)
        module = model_class.network_from_config(network, batcher, body=body)
    with _entry(f"{role}_model"):
        model = model_class(module, batcher, cuda_default=False, **given, **arguments)
    with _entry("device"):
        return model.to(config.get("device", "cpu"))


def _optimizer(config: Config, policy: BasePGModel, value: ValueModel | None) -> Any:
    with _entry("optimizer"):
        settings = _optimizer_settings(config.optimizer)
        if value is None:
            return SingleOpt(policy, **settings)
        if config.get("value_optimizer") is None:
            return JointOpt([policy, value], **settings)
        first = SingleOpt(policy, **settings)
    with _entry("value_optimizer"):
        return ListOpt([first, SingleOpt(value, **_optimizer_settings(config.value_optimizer))])


def _direct_advantages(config: Config, batcher: RolloutBatcher, value: ValueModel | None) -> DAE:
    model = _model(config, "advantage", AdvantageModel, batcher, value_model=value)
    with _entry("advantage_optimizer"):
        return DAE(SingleOpt(model, **_optimizer_settings(config.get("advantage_optimizer") or {})))


def _optimizer_settings(given: Any) -> dict[str, Any]:
    settings = _arguments(given)
    name = settings.get("opt_fn")
    if isinstance(name, str):
        settings["opt_fn"] = resolve(name)
    if name is not None and not (
        inspect.isclass(settings["opt_fn"]) and issubclass(settings["opt_fn"], torch.optim.Optimizer)
    ):
        raise SettingError(f"opt_fn must be a class of torch.optim, got {name!r}")
    return settings


def _estimator(config: Config, name: str) -> Any:
    if config.get(name) is None:
        return None
    with _entry(name):
        return _class_of(config[name], Estimator)(**_arguments(config[name]))
