"""A checkpoint named by LATEST always loads, wherever the writer was killed."""

import subprocess
import sys
import textwrap

# One process imports torch once and forks the writers: fifty interpreters would take a minute to start.
PRELUDE = """
    import os, random, signal, sys, time, warnings
    from pathlib import Path
    import torch
    from fastrl.runs import checkpoint

    warnings.simplefilter("error")  # falling back would be a warning: LATEST must be good as it is
    root = Path(sys.argv[1])

    def state(step):
        return {"step": step, "weights": torch.full((20_000,), float(step)), "text": str(step) * 2_000}

    def check(oldest):
        loaded = checkpoint.load_checkpoint(root)
        step = loaded["step"]
        assert step >= oldest, (step, oldest)
        assert loaded["weights"].equal(state(step)["weights"]) and loaded["text"] == state(step)["text"]
        return step
"""

RANDOM_KILLS = """
    def write_forever(step, pause):
        while True:
            step += 1
            checkpoint.save_checkpoint(root, state(step), step=step, keep=2)
            time.sleep(pause)

    random.seed(0)
    checkpoint.save_checkpoint(root, state(0), step=0)
    step = inside = kill = 0
    # a busy machine gets less done between two kills
    while kill < 50 or (min(inside, step) < 10 and kill < 500):
        kill += 1
        child = os.fork()
        if child == 0:
            write_forever(step, pause=0 if kill % 2 else 0.01)
        time.sleep(random.uniform(0.002, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL  # it did not die of anything else
        newest = root / (root / "LATEST").read_text().split()[0]
        unfinished = any(checkpoint.TEMPORARY.fullmatch(entry.name) for entry in root.iterdir())
        inside += unfinished or newest != checkpoint._checkpoints(root)[-1]
        step = check(oldest=step)
    print("inside", inside, "steps", step)
"""

KILL_AT_EVERY_CALL = """
    calls = 0

    def dying(function, at):
        def call(*args, **kwargs):
            global calls
            calls += 1
            if calls == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)
        return call

    checkpoint.save_checkpoint(root, state(0), step=0)
    at, step = 0, 0
    while True:
        at += 1
        child = os.fork()
        if child == 0:
            places = [(os, name) for name in ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")]
            places += [(Path, "write_bytes"), (Path, "write_text")]
            for place, name in (*places, (checkpoint.safetensors.torch, "save_file")):
                setattr(place, name, dying(getattr(place, name), at))
            checkpoint.save_checkpoint(root, state(step + 1), step=step + 1, keep=1)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        step = check(oldest=step)
        if status == 0:
            break
        assert status == signal.SIGKILL, status
    print("calls", at)
"""


def run_script(body: str, root) -> list[str]:
    script = textwrap.dedent(PRELUDE) + textwrap.dedent(body)
    result = subprocess.run(
        [sys.executable, "-c", script, str(root)], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_fifty_random_kills(tmp_path):
    _, inside, _, steps = run_script(RANDOM_KILLS, tmp_path)
    assert int(inside) >= 10  # that many at least did hit a save
    assert int(steps) >= 10  # and that many saves were done


def test_a_kill_before_every_single_call_to_the_file_system(tmp_path):
    _, calls = run_script(KILL_AT_EVERY_CALL, tmp_path)
    assert int(calls) > 12  # the calls of the protocol, at the least
