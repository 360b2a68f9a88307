#include "ops/layer_norm_tanh.h"

#include "core/cpu_team.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def("layer_norm_tanh(Tensor x, Tensor weight, Tensor bias, Tensor? shift=None, float eps=1e-05) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("layer_norm_tanh", TORCH_BOX(&fastrl::layer_norm_tanh<fastrl::CpuTeams>)); }
