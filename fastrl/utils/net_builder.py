"""The documented names of `fastrl.toolkit.utils.net_builder`."""

from fastrl.toolkit.utils.net_builder import (
    ARCHS,
    auto_input_shape,
    get_module_list,
    nn_from_config,
    packaged_arch,
)

__all__ = ["ARCHS", "auto_input_shape", "get_module_list", "nn_from_config", "packaged_arch"]
