#include "core/cuda.cuh"
#include "ops/elu.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("elu", TORCH_BOX(&fastrl::elu_op<fastrl::Cuda>)); }
