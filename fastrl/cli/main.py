"""`fastrl <command> ...`: finds the command, and turns errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from fastrl import __version__
from fastrl.errors import SettingError, nearest
from fastrl.runs.output import as_text, lasting

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
        0 done, 1 something failed, 2 the command cannot be carried out as written, 128 + the number of the
        signal that stopped it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _occupy_standard_descriptors()
    before = sys.stdout, sys.stderr, warnings.showwarning
    out, complaints = lasting(sys.stdout), lasting(sys.stderr)
    sys.stdout, sys.stderr, warnings.showwarning = as_text(out), as_text(complaints), _show_warning  # type: ignore[assignment]
    try:
        code = _carry_out(arguments)
        out.flush()
        if code == 0 and out.lost is not None and arguments[:1] != ["train"]:  # where output is all there is
            return (
                PIPE_CLOSED
                if out.reader_gone
                else _fail(out.lost, FAILURE, "standard output cannot be written: ")
            )
        return code
    finally:
        sys.stdout, sys.stderr, warnings.showwarning = before
        out.release()
        complaints.release()


def _carry_out(arguments: list[str]) -> int:
    """The command's exit code; errors become a sentence."""
    try:
        return _dispatch(arguments)
    except SettingError as error:
        return _fail(error, USAGE_ERROR)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:  # a full disk, a file without permission
        return _fail(error, FAILURE)
    except Exception as error:
        # fastrl's own errors are sentences for users; any other is a defect, whose traceback is wanted
        if not type(error).__module__.startswith("fastrl."):
            raise
        return _fail(error, FAILURE)


def _occupy_standard_descriptors() -> None:
    """Open the null device in place of each standard stream that the process was started without.

    The next file that is opened would take its number, and get its text.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _dispatch(arguments: list[str]) -> int:
    if any("\0" in word for word in arguments):
        raise SettingError("an argument holds a null character, which no name of a file or setting does")
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
    return int(module.run(arguments[1:]))


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, summary in COMMANDS.items()]
    return "\n".join(["usage: fastrl <command> ...", "", *lines, "", "`fastrl <command> --help` says more."])


def _fail(error: Exception, code: int, what: str = "") -> int:
    print(f"fastrl: {what}{_sentence(error)}", file=sys.stderr)
    return code


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return text.removeprefix("fastrl: ")


def _show_warning(message: Warning | str, *_where: object) -> None:
    """A warning as a user reads it: no source line."""
    print(f"fastrl: warning: {' '.join(str(message).split())}", file=sys.stderr)
