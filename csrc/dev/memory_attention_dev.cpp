// memory_attention as a GPU's warps compute it, lane after lane on the CPU: torch.ops.fastrl_dev. Never part of a wheel.
#include "dev/emulated_warps.h"
#include "ops/memory_attention_backward.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def(
      "memory_attention_warps(Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask=None, float? scale=None)"
      " -> (Tensor out, Tensor statistics)");
  m.def(
      "memory_attention_to_query_warps(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> Tensor");
  m.def(
      "memory_attention_to_bank_warps(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("memory_attention_warps", TORCH_BOX(&fastrl::memory_attention<fastrl::EmulatedWarps>));
  m.impl("memory_attention_to_query_warps", TORCH_BOX(&fastrl::memory_attention_to_query<fastrl::EmulatedWarps>));
  m.impl("memory_attention_to_bank_warps", TORCH_BOX(&fastrl::memory_attention_to_bank<fastrl::EmulatedWarps>));
}
