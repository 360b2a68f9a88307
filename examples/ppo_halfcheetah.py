"""PPO on HalfCheetah with a run folder: python examples/ppo_halfcheetah.py [steps] [folder]

The folder gets config.toml, metrics, evaluations, the learning curve and checkpoints; started a second time
with more steps, the run goes on from its last checkpoint. The same on the command line: fastrl train ppo
--env-id HalfCheetah-v5 (and its flags).
"""

import sys
from pathlib import Path

from fastrl.trainers.policy_gradient.config import PPOConfig
from fastrl.trainers.policy_gradient.trainer import PolicyGradientTrainer

total_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "runs/ppo_halfcheetah")

config = PPOConfig(
    env_id="HalfCheetah-v5",
    seed=1,
    total_steps=total_steps,
    num_envs=8,
    num_steps=256,
    layer_sizes=(64, 64),
    gamma=0.99,
    gae_lambda=0.95,
    update_epochs=10,
    num_minibatches=32,
    learning_rate=3e-4,
    clip_vloss=True,
    vf_coef=0.5,
    normalize_observation=True,
    normalize_reward=True,
    eval_episodes=4,
)
with PolicyGradientTrainer.from_config(config) as trainer:
    if (folder / "checkpoints").exists():
        trainer.load(folder)
    trainer.train(total_steps, str(folder))
    print(f"{trainer.env_steps} steps are in {folder}: curve.png shows the returns, eval.csv holds them")
