// The GPU's way of copying sequences on the CPU, thread by thread.
#include "core/cpu.h"
#include "ops/gather_sequences.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def("gather_sequences_lanes(Tensor[] fields, Tensor start, Tensor env, int seq_len) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("gather_sequences_lanes", TORCH_BOX(&fastrl::gather_sequences<fastrl::LaneCopy<fastrl::Cpu>>));
}
