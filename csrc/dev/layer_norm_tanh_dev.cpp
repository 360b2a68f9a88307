// layer_norm_tanh as a GPU's warps compute it: torch.ops.fastrl_dev. Never part of a wheel.
#include "dev/emulated_warps.h"
#include "ops/layer_norm_tanh.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def("layer_norm_tanh_warps(Tensor x, Tensor weight, Tensor bias, Tensor? shift=None, float eps=1e-05) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("layer_norm_tanh_warps", TORCH_BOX(&fastrl::layer_norm_tanh<fastrl::EmulatedWarps>));
}
