#include "ops/elu.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) { m.def("elu(Tensor x) -> Tensor"); }

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("elu", TORCH_BOX(&fastrl::elu_op<fastrl::Cpu>)); }
