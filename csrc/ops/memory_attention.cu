#include "core/cuda_team.cuh"
#include "ops/memory_attention_backward.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) {
  m.impl("memory_attention", TORCH_BOX(&fastrl::memory_attention<fastrl::CudaTeams>));
  m.impl("memory_attention_to_query", TORCH_BOX(&fastrl::memory_attention_to_query<fastrl::CudaTeams>));
  m.impl("memory_attention_to_bank", TORCH_BOX(&fastrl::memory_attention_to_bank<fastrl::CudaTeams>));
}
