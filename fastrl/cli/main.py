"""`fastrl <command> ...`: finds the command, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from fastrl import __version__
from fastrl.errors import SettingError, nearest

COMMANDS = {
    "train": "train an agent: fastrl train <algorithm> --env-id <id> [--resume <run>] ...",
    "eval": "play episodes with a trained agent: fastrl eval <run> [--episodes N] [--json]",
    "plot": "draw the learning curves of runs: fastrl plot <run> ... [--out curves.png]",
    "envs": "list the environments: fastrl envs [filter] [--json]; look at one: fastrl envs check <id>",
    "doctor": "say what is installed, built and loaded, and what to do about problems [--json]",
}
USAGE_ERROR, FAILURE, INTERRUPTED, PIPE_CLOSED = 2, 1, 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Args:
        argv: arguments without the program's name; None takes the process's.

    Returns:
        0 done, 1 something failed, 2 the command cannot be carried out as written, 130 or 143 stopped by SIGINT or SIGTERM.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    previous = warnings.showwarning
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        return _dispatch(arguments)
    except SettingError as error:
        return _fail(error, USAGE_ERROR)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # the reader (`| head`) has seen enough; without this Python complains once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        # fastrl's own errors are sentences for users; any other is a defect, whose traceback is wanted
        if not type(error).__module__.startswith("fastrl."):
            raise
        return _fail(error, FAILURE)
    finally:
        warnings.showwarning = previous


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else USAGE_ERROR
    if arguments[0] == "--version":
        print(f"fastrl {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        raise SettingError(f"there is no command {name!r}{nearest(name, COMMANDS)}; see `fastrl --help`")
    module = importlib.import_module(f"fastrl.cli.{name}_command")
    code = int(module.run(arguments[1:]))
    sys.stdout.flush()
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(["usage: fastrl <command> ...", "", *lines, "", "`fastrl <command> --help` says more."])


def _fail(error: Exception, code: int) -> int:
    print(f"fastrl: {_sentence(error)}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.removeprefix("fastrl: ")


def _show_warning(message: Warning | str, *_where: object) -> None:
    """A warning as a user reads it: no source line."""
    print(f"fastrl: warning: {' '.join(str(message).split())}", file=sys.stderr)
