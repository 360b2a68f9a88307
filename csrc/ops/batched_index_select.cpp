#include "ops/batched_index_select.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def("batched_index_select(Tensor input, int dim, Tensor index) -> Tensor");
  m.def("batched_index_select_backward(Tensor gradient, int dim, Tensor index, SymInt size) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("batched_index_select", TORCH_BOX(&fastrl::batched_index_select<fastrl::Cpu>));
  m.impl("batched_index_select_backward", TORCH_BOX(&fastrl::batched_index_select_backward<fastrl::Cpu>));
}
