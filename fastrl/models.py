"""The documented names of `fastrl.toolkit.models`."""

from fastrl.toolkit.models import (
    A2CModel,
    AdvantageModel,
    BaseModel,
    BasePGModel,
    PPOAdaptiveModel,
    PPOClipModel,
    SurrogatePGModel,
    ValueModel,
    VanillaPGModel,
)

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
