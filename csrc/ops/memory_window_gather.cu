#include "core/cuda.cuh"
#include "ops/memory_window_gather.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) {
  m.impl("memory_window_gather", TORCH_BOX(&fastrl::memory_window_gather<fastrl::Cuda>));
  m.impl("memory_window_gather.out", TORCH_BOX(&fastrl::memory_window_gather_out<fastrl::Cuda>));
  m.impl("memory_window_gather_backward", TORCH_BOX(&fastrl::memory_window_gather_backward<fastrl::Cuda>));
}
