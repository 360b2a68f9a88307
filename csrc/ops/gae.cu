#include "core/cuda.cuh"
#include "ops/gae.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("gae", TORCH_BOX(&fastrl::gae<fastrl::Cuda>)); }
