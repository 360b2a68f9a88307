#include "core/cuda.cuh"
#include "ops/tanh.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("tanh", TORCH_BOX(&fastrl::tanh_op<fastrl::Cuda>)); }
