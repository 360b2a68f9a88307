#include "core/cuda_team.cuh"
#include "ops/layer_norm_tanh.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("layer_norm_tanh", TORCH_BOX(&fastrl::layer_norm_tanh<fastrl::CudaTeams>)); }
