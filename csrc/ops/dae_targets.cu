#include "core/cuda.cuh"
#include "ops/dae_targets.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) {
  m.impl("dae_targets", TORCH_BOX(&fastrl::dae_targets<fastrl::Cuda>));
  m.impl("dae_targets_backward", TORCH_BOX(&fastrl::dae_targets_backward<fastrl::Cuda>));
}
