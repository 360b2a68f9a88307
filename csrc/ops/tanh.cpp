#include "ops/tanh.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) { m.def("tanh(Tensor x) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("tanh", TORCH_BOX(&fastrl::tanh_op<fastrl::Cpu>)); }
