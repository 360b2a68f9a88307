"""Networks with their losses: policies of the policy-gradient family, and value functions."""

from fastrl.models.a2c_model import A2CModel
from fastrl.models.advantage_model import AdvantageModel
from fastrl.models.base_model import BaseModel
from fastrl.models.base_pg_model import BasePGModel
from fastrl.models.ppo_adaptive_model import PPOAdaptiveModel
from fastrl.models.ppo_clip_model import PPOClipModel
from fastrl.models.surrogate_pg_model import SurrogatePGModel
from fastrl.models.value_model import ValueModel
from fastrl.models.vanilla_pg_model import VanillaPGModel

__all__ = [
    "A2CModel",
    "AdvantageModel",
    "BaseModel",
    "BasePGModel",
    "PPOAdaptiveModel",
    "PPOClipModel",
    "SurrogatePGModel",
    "ValueModel",
    "VanillaPGModel",
]
