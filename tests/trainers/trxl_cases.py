"""Small PPO-TrXL trainers, and the documented modules stepped by hand beside them."""

import hashlib

import gymnasium as gym
import numpy as np
import torch

from fastrl.envs import make_vector_env
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer

CPU = torch.device("cpu")


SETTINGS = {
    "seed": 3,
    "device": CPU,
    "num_envs": 4,
    "num_steps": 16,
    "num_minibatches": 2,
    "update_epochs": 2,
    "init_lr": 1e-3,
    "final_lr": 1e-4,
    "anneal_steps": 10_000,
    "gamma": 0.9,
    "gae_lambda": 0.8,
    "norm_adv": True,
    "clip_coef": 0.2,
    "clip_vloss": True,
    "init_ent_coef": 0.01,
    "final_ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "target_kl": None,
    "trxl_num_layers": 2,
    "trxl_num_heads": 2,
    "trxl_dim": 8,
    "trxl_memory_length": 4,
    "trxl_positional_encoding": "absolute",
    "reconstruction_coef": 0.0,
    "threads": 1,
}


def make_trainer(env_id="Counter-v0", **settings):
    if (
        env_id == "Counter-v0"
    ):  # episodes of several lengths: shorter than the window, as long, longer, and longer than a rollout
        settings = {"env_kwargs": {"length": 9, "end": "truncated"}, "max_episode_steps": 30} | settings
    return PPOTrXLTrainer(env_id=env_id, **SETTINGS | settings)


def counters(lengths, end="terminated"):
    """A factory of environments that end after so many steps."""
    return lambda: make_vector_env(
        "Counter-v0", len(lengths), seed=3, env_kwargs={"length": lengths, "end": end}, max_episode_steps=40
    )


def one_round(trainer):
    with trainer.session():  # its own generators, which checkpoints hold
        assert trainer.collect()
        trainer.estimate()
        return trainer.learn()


def weights_hash(trainer):
    digest = hashlib.sha256()
    for name, value in sorted(trainer.learner.agent.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


class Shadow:
    """The documented modules stepped by hand: windows are built as tensors, from lists of what each episode's
    steps left behind."""

    def __init__(self, trainer):
        self.trainer = trainer
        self.window = trainer.config.trxl_memory_length
        self.past = [
            [] for _ in range(trainer.env.num_envs)
        ]  # per environment: [L, D] of each step of the episode

    def row(self, obs, actions):
        """(log-probabilities, values) of one row of all environments; remembers what the row leaves
        behind."""
        agent = self.trainer.learner.agent
        layers, dim = agent.transformer.num_layers, agent.transformer.dim
        mask = torch.zeros(len(self.past), self.window, dtype=torch.bool)
        indices = torch.zeros(len(self.past), self.window, dtype=torch.int64)
        memory = torch.full(
            (len(self.past), self.window, layers, dim), 7.0
        )  # what is not seen may be anything
        for env, past in enumerate(self.past):
            steps = range(max(len(past) - self.window, 0), len(past))
            for place, step in enumerate(steps):
                mask[env, place], indices[env, place], memory[env, place] = True, step, past[step]
        with torch.no_grad():
            _, log_probs, _, values, self.left = agent.get_action_and_value(
                obs, memory, mask, indices, action=actions
            )
            torch.testing.assert_close(agent.get_value(obs, memory, mask, indices), values)
        return log_probs, values

    def after(self, valid, begins):
        """What was left behind belongs to the episode if the row was a transition; where a new episode begins
        nothing is remembered."""
        for env in range(len(self.past)):
            if valid[env]:
                self.past[env].append(self.left[env])
            if begins[env]:
                self.past[env] = []


class AllAtOnce(gym.vector.SyncVectorEnv):
    """As an asynchronous one: fastrl does not step its environments one by one."""


class Unlimited(gym.Env):
    """No time limit that anybody could know of."""

    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 0.0, False, False, {}
