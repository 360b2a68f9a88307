"""An agent, its network included, from a file: python examples/network_from_config.py [steps] [file.yaml]"""

import sys
from pathlib import Path

from fastrl.agents import agent_from_config
from fastrl.utils.config import Config
from fastrl.utils.utils import env_from_config

path = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).with_suffix(".yaml")
config = Config.load(path)
agent = agent_from_config(config, log_dir=None)
print(agent.models.policy.model)
agent.train(max_steps=int(sys.argv[1]) if len(sys.argv) > 1 else config.max_steps, log_freq=10)
result = agent.evaluate(env_from_config(config), 20)
print(f"Return of 20 episodes with the most probable actions: {result['eval/return_mean']:.1f}")
