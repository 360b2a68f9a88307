#include "ops/vtrace.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def(
      "vtrace(Tensor rewards, Tensor values, Tensor log_rhos, Tensor terminated, Tensor truncated, float gamma, float vtrace_lambda,"
      " float rho_clip, float c_clip, float pg_rho_clip, Tensor? valid=None) -> (Tensor targets, Tensor pg_advantages)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("vtrace", TORCH_BOX(&fastrl::vtrace<fastrl::Cpu>)); }
