"""An environment's own constructor can raise anything: what it raised becomes one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastrl.errors import SettingError
from fastrl.machine import available_memory, in_words

CHECKED_EVERY = 256  # environments between two looks at the memory that is left
LEAST_MEMORY = 1 << 30  # bytes that a run needs beside its environments


@contextlib.contextmanager
def constructing(name: str, options: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Around a call that makes an environment.

    Args:
        name: the environment's id, or what makes it.
        options: what it is made with, for the message.

    Raises:
        SettingError: the call raised; the message has the type and text of what it raised. A SettingError
            passes as it is.
    """
    try:
        yield
    except SettingError:
        raise
    except (Exception, SystemExit) as error:
        setting = "env_kwargs" if options and isinstance(error, TypeError) else "env_id"
        given = f" with {dict(options)}" if options else ""
        raise SettingError(f"{setting}: {name} cannot be made{given}: {_in_words(error)}") from error


def build(factory: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """What a factory makes with these options.

    Raises:
        SettingError: it raised.
    """
    name = getattr(factory, "__name__", None) or type(factory).__name__
    with constructing(f"the environment of {name}", options):
        return factory(**options)


def build_many(make: Callable[[], Any], count: int, name: str) -> list[Any]:
    """`count` environments in this process; if one cannot be made, those before it are closed.

    Raises:
        SettingError: the machine's memory is nearly used up before all are made.
    """
    made: list[Any] = []
    try:
        for number in range(count):
            left = available_memory() if number % CHECKED_EVERY == CHECKED_EVERY - 1 else None
            if left is not None and left < LEAST_MEMORY:
                raise SettingError(
                    f"num_envs too large: after {number:,} environments of {name} only {in_words(left)} of "
                    "memory are left"
                )
            made.append(make())
    except BaseException:
        for env in made:
            with contextlib.suppress(Exception):  # a factory can return anything
                env.close()
        raise
    return made


def _in_words(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
