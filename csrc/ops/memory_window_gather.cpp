#include "ops/memory_window_gather.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def("memory_window_gather(Tensor memory, Tensor episode, Tensor index, Tensor? mask=None, Tensor? position=None) -> Tensor");
  m.def(
      "memory_window_gather.out(Tensor memory, Tensor episode, Tensor index, Tensor? mask=None, Tensor? position=None, *,"
      " Tensor(a!) out) -> ()");
  m.def(
      "memory_window_gather_backward(Tensor gradient, Tensor episode, Tensor index, Tensor? mask, SymInt episodes, SymInt slots,"
      " bool to_memory, bool to_position) -> (Tensor memory, Tensor position)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("memory_window_gather", TORCH_BOX(&fastrl::memory_window_gather<fastrl::Cpu>));
  m.impl("memory_window_gather.out", TORCH_BOX(&fastrl::memory_window_gather_out<fastrl::Cpu>));
  m.impl("memory_window_gather_backward", TORCH_BOX(&fastrl::memory_window_gather_backward<fastrl::Cpu>));
}
