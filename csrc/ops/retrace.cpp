#include "ops/retrace.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def(
      "retrace(Tensor rewards, Tensor q_values, Tensor next_values, Tensor log_rhos, Tensor terminated, Tensor truncated, float gamma,"
      " float retrace_lambda, Tensor? valid=None) -> Tensor targets");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("retrace", TORCH_BOX(&fastrl::retrace<fastrl::Cpu>)); }
