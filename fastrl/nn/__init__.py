"""Networks: the containers that configurations are built of, by name.

Layers, heads and memories are in modules of their own.
"""

from fastrl.nn.containers import (
    ActionLinear,
    AdvantageLinear,
    ChannelsFirst,
    FlattenLinear,
    ModuleExtended,
    SequentialExtended,
)

__all__ = [
    "ActionLinear",
    "AdvantageLinear",
    "ChannelsFirst",
    "FlattenLinear",
    "ModuleExtended",
    "SequentialExtended",
]
