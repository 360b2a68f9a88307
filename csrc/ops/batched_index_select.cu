#include "core/cuda.cuh"
#include "ops/batched_index_select.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) {
  m.impl("batched_index_select", TORCH_BOX(&fastrl::batched_index_select<fastrl::Cuda>));
  m.impl("batched_index_select_backward", TORCH_BOX(&fastrl::batched_index_select_backward<fastrl::Cuda>));
}
