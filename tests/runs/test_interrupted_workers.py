"""Ctrl-C goes to every process of a terminal's group: the workers of environments die of it, and the run
still ends with a checkpoint."""

import os
import signal
import subprocess
import sys

from fastrl.runs.checkpoint import load_checkpoint

SCRIPT = """
import sys, time
import gymnasium as gym, numpy as np, torch
from fastrl.trainers.vmpo.trainer import VMPOTrainer

class Slow(gym.Env):
    observation_space, action_space = gym.spaces.Box(-1, 1, (3,)), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        time.sleep(0.005)
        return np.zeros(3, np.float32), 1.0, False, False, {}

if __name__ == "__main__":
    trainer = VMPOTrainer(
        lambda: gym.vector.AsyncVectorEnv([Slow] * 2), seed=1, device=torch.device("cpu"),
        policy_layer_sizes=(8,), value_layer_sizes=(8,), rollout_steps=8,
    )
    trainer.train(1_000_000, sys.argv[1])
    trainer.close()
    print("interrupted by", trainer.interrupted, flush=True)
"""


def test_ctrl_c_that_kills_the_workers_ends_with_a_checkpoint(tmp_path):
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(SCRIPT)
    command = [sys.executable, "-W", "ignore", str(script), str(out)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        begun = next((line for line in process.stdout if line.startswith("V-MPO on")), None)
        assert begun is not None, process.stderr.read()
        os.killpg(process.pid, signal.SIGINT)
        said, complaint = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, complaint
    assert said.strip().endswith("interrupted by SIGINT")
    assert load_checkpoint(out / "checkpoints")["algorithm"] == "vmpo"
