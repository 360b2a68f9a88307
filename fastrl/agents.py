"""The documented names of `fastrl.toolkit.agents`."""

from fastrl.toolkit.agents import BaseAgent, PGAgent, agent_from_config

__all__ = ["BaseAgent", "PGAgent", "agent_from_config"]
