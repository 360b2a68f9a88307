#include "core/cuda.cuh"
#include "ops/gather_sequences.h"

STABLE_TORCH_LIBRARY_IMPL(fastrl, CUDA, m) {
  m.impl("gather_sequences", TORCH_BOX(&fastrl::gather_sequences<fastrl::LaneCopy<fastrl::Cuda>>));
  m.impl("gather_sequences.out", TORCH_BOX(&fastrl::gather_sequences_out<fastrl::LaneCopy<fastrl::Cuda>>));
}
