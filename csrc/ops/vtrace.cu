#include "core/cuda.cuh"
#include "ops/vtrace.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("vtrace", TORCH_BOX(&fastrl::vtrace<fastrl::Cuda>)); }
