"""What brings environments, models and optimisers together: agents with a training loop of their own."""

from fastrl.toolkit.agents.base_agent import BaseAgent
from fastrl.toolkit.agents.from_config import agent_from_config
from fastrl.toolkit.agents.pg_agent import PGAgent

__all__ = ["BaseAgent", "PGAgent", "agent_from_config"]
