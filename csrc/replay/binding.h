// What csrc/replay gives to Python.
#pragma once

#include <pybind11/pybind11.h>

namespace fastrl {

void bind_replay(pybind11::module_& module);

}  // namespace fastrl
