#include "core/cuda.cuh"
#include "ops/retrace.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) { m.impl("retrace", TORCH_BOX(&fastrl::retrace<fastrl::Cuda>)); }
