"""Networks with their losses: policies of the policy-gradient family, and value functions."""

from fastrl.toolkit.models.a2c_model import A2CModel
from fastrl.toolkit.models.advantage_model import AdvantageModel
from fastrl.toolkit.models.base_model import BaseModel
from fastrl.toolkit.models.base_pg_model import BasePGModel
from fastrl.toolkit.models.ppo_adaptive_model import PPOAdaptiveModel
from fastrl.toolkit.models.ppo_clip_model import PPOClipModel
from fastrl.toolkit.models.surrogate_pg_model import SurrogatePGModel
from fastrl.toolkit.models.value_model import ValueModel
from fastrl.toolkit.models.vanilla_pg_model import VanillaPGModel

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
