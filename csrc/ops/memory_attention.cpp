#include "ops/memory_attention.h"

#include "core/cpu_team.h"
#include "ops/memory_attention_backward.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def(
      "memory_attention(Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask=None, float? scale=None)"
      " -> (Tensor out, Tensor statistics)");
  m.def(
      "memory_attention_to_query(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> Tensor to_query");
  m.def(
      "memory_attention_to_bank(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> (Tensor to_key, Tensor to_value)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("memory_attention", TORCH_BOX(&fastrl::memory_attention<fastrl::CpuTeams>));
  m.impl("memory_attention_to_query", TORCH_BOX(&fastrl::memory_attention_to_query<fastrl::CpuTeams>));
  m.impl("memory_attention_to_bank", TORCH_BOX(&fastrl::memory_attention_to_bank<fastrl::CpuTeams>));
}
