#include "ops/gather_sequences.h"

#include "ops/gather_sequences_cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def("gather_sequences(Tensor[] fields, Tensor start, Tensor env, int seq_len) -> Tensor[]");
  m.def("gather_sequences.out(Tensor[] fields, Tensor start, Tensor env, int seq_len, *, Tensor(a!)[] out) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("gather_sequences", TORCH_BOX(&fastrl::gather_sequences<fastrl::BlockCopy>));
  m.impl("gather_sequences.out", TORCH_BOX(&fastrl::gather_sequences_out<fastrl::BlockCopy>));
}
