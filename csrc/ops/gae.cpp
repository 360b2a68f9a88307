#include "ops/gae.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def(
      "gae(Tensor rewards, Tensor values, Tensor terminated, Tensor truncated, float gamma, float gae_lambda, Tensor? valid=None)"
      " -> (Tensor advantages, Tensor returns)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) { m.impl("gae", TORCH_BOX(&fastrl::gae<fastrl::Cpu>)); }
