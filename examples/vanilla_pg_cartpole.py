"""The policy gradient on CartPole: python examples/vanilla_pg_cartpole.py [steps]"""

import sys

from torch import nn

from fastrl.agents import PGAgent
from fastrl.batchers import RolloutBatcher
from fastrl.envs import GymEnv
from fastrl.models import ValueModel, VanillaPGModel
from fastrl.optimizers import ListOpt, SingleOpt
from fastrl.utils.config import Config

max_steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000

env = GymEnv("CartPole-v1")
batcher = RolloutBatcher(env, batch_size=512, num_envs=8, seed=1)
network = Config(nn_config=Config(body=[dict(func=nn.Linear, out_features=64), dict(func=nn.Tanh)]))
policy = VanillaPGModel.from_config(network, batcher=batcher, entropy_coef=0.01)
value = ValueModel.from_config(network, batcher=batcher)
optimizer = ListOpt(
    [
        SingleOpt(policy, opt_params={"lr": 3e-3}),
        SingleOpt(value, num_epochs=10, num_mini_batches=4, opt_params={"lr": 1e-3}),
    ]
)
agent = PGAgent(
    batcher, policy_model=policy, value_model=value, optimizer=optimizer, log_dir="runs/vanilla_pg_cartpole"
)
agent.train(max_steps=max_steps, log_freq=20)
print(
    "Return of 20 episodes with the most probable actions: "
    f"{agent.evaluate(env, 20)['eval/return_mean']:.1f} of at most 500"
)
