"""The front door: help, exit codes, and errors as sentences."""

import os
import subprocess
import sys
import types
import warnings

import pytest

from fastrl.cli import main as cli
from fastrl.cli.main import COMMANDS, main
from fastrl.errors import CheckpointError, SettingError

RUN = [sys.executable, "-m", "fastrl"]
KNOWN = "vmpo, mpo, sac, vanilla-pg, a2c, surrogate-pg, ppo, ppo-adaptive, ppo-trxl\n"


def test_help_names_every_command_without_importing_torch():
    code = (
        "import sys; from fastrl.cli.main import main; print(main(['--help']), sorted({'torch', 'numpy', "
        "'tyro'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr
    assert all(command in result.stdout for command in COMMANDS)


def test_the_version(capsys):
    from fastrl import __version__

    assert main(["--version"]) == 0 and capsys.readouterr().out == f"fastrl {__version__}\n"


def test_no_command_shows_help_and_is_an_error(capsys):
    assert main([]) == 2 and "usage: fastrl" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as end:
        code = end.code
    assert code == 0 and f"fastrl {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("tran", "fastrl: there is no command 'tran'; did you mean 'train'?; see `fastrl --help`\n"),
        (
            "train vmp",
            "fastrl: there is no algorithm 'vmp'; did you mean 'vmpo'?; known: " + KNOWN,
        ),
        (
            "train --env-id x",
            "fastrl: the algorithm comes first: fastrl train <algorithm> ...; known: " + KNOWN,
        ),
        (
            "eval",
            "fastrl: fastrl eval: the following arguments are required: run; see `fastrl eval --help`\n",
        ),
        (
            "envs x --jsn",
            "fastrl: fastrl envs: there is no argument --jsn; did you mean '--json'?; see `fastrl envs "
            "--help`\n",
        ),
        (
            "eval x --episodes many",
            "fastrl: fastrl eval: argument --episodes: must be a whole number, got 'many'; see `fastrl eval "
            "--help`\n",
        ),
        ("eval x --episodes 0", "fastrl: episodes must be at least 1, got 0\n"),
        (
            f"eval x --episodes {10**30}",
            f"fastrl: episodes must be at least 1 and below 2^31, got {10**30}\n",
        ),
        (
            "plot x\0y",
            "fastrl: an argument holds a null character, which no name of a file or setting does\n",
        ),
        ("eval x --seed -1", "fastrl: seed must be in [0, 2^31), got -1\n"),
        ("eval x", "fastrl: there is no run in 'x': it has no readable config.toml\n"),
        ("plot x", "fastrl: there is no run in 'x': it has no readable config.toml\n"),
        ("plot x --out curves.txt", "fastrl: out must end in .png, .pdf, .svg, got 'curves.txt'\n"),
        ("plot x --line 3", "fastrl: line must be LABEL=RETURN, for example optimum=1.2, got '3'\n"),
        (
            "plot x --line a=1e300",
            "fastrl: line must be LABEL=RETURN, for example optimum=1.2, got 'a=1e300'\n",
        ),
        ("plot x --line a=inf", "fastrl: line must be LABEL=RETURN, for example optimum=1.2, got 'a=inf'\n"),
    ],
)
def test_a_mistake_is_one_sentence_on_stderr_and_exit_code_2(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.err == message and captured.out == ""


@pytest.fixture
def command(monkeypatch):
    """Makes `fastrl envs` do what the test wants."""

    def install(action):
        module = types.ModuleType("fake_command")
        module.run = lambda arguments: action() or 0
        monkeypatch.setattr(cli.importlib, "import_module", lambda name: module)

    return install


def throw(error):
    raise error


@pytest.mark.parametrize(("error", "code"), [(SettingError("one\ntwo"), 2), (CheckpointError("one\ntwo"), 1)])
def test_errors_of_the_library_are_sentences(command, error, code, capsys):
    command(lambda: throw(error))
    assert main(["envs"]) == code and capsys.readouterr().err == "fastrl: one two\n"


def test_a_defect_keeps_its_traceback(command):
    command(lambda: throw(ZeroDivisionError("a defect")))
    with pytest.raises(ZeroDivisionError):
        main(["envs"])


def test_ctrl_c_is_130(command):
    command(lambda: throw(KeyboardInterrupt()))
    assert main(["envs"]) == 130


def test_warnings_are_one_line_and_leave_no_trace(command, capsys):
    shown = warnings.showwarning
    command(lambda: warnings.warn("be\ncareful", stacklevel=1))
    assert main(["envs"]) == 0 and capsys.readouterr().err == "fastrl: warning: be careful\n"
    assert warnings.showwarning is shown


def test_a_reader_that_leaves_early_is_no_error():
    result = subprocess.run(
        f"{sys.executable} -m fastrl envs | head -1", shell=True, capture_output=True, text=True
    )
    assert result.stdout.count("\n") == 1 and result.stderr == ""


def test_a_full_disk_behind_standard_output_is_one_sentence():
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        result = subprocess.run([*RUN, "envs"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (
        result.returncode == 1
        and result.stderr == "fastrl: standard output cannot be written: No space left on device\n"
    )


def test_a_process_without_its_streams_says_nothing():
    result = subprocess.run(f"{sys.executable} -m fastrl --version <&- >&- 2>&-", shell=True)
    assert result.returncode == 0


def test_streams_are_the_caller_s_own_again(command):
    before = sys.stdout, sys.stderr
    command(lambda: throw(SettingError("no")))
    main(["envs"])
    assert (sys.stdout, sys.stderr) == before


def test_an_error_of_the_system_is_a_sentence(command, capsys):
    command(lambda: throw(PermissionError(13, "Permission denied", "/x/metrics.csv")))
    assert main(["envs"]) == 1 and capsys.readouterr().err == "fastrl: Permission denied: /x/metrics.csv\n"


def test_python_m_fastrl_is_the_same():
    result = subprocess.run([*RUN, "tran"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("fastrl: there is no command 'tran'")
