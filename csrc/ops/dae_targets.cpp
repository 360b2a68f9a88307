#include "ops/dae_targets.h"

#include "core/cpu.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def(
      "dae_targets(Tensor rewards, Tensor advantages, Tensor values, Tensor terminated, Tensor truncated, float gamma, Tensor? valid=None)"
      " -> Tensor targets");
  m.def(
      "dae_targets_backward(Tensor gradient, Tensor terminated, Tensor truncated, float gamma, Tensor? valid=None)"
      " -> (Tensor to_advantages, Tensor to_values)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("dae_targets", TORCH_BOX(&fastrl::dae_targets<fastrl::Cpu>));
  m.impl("dae_targets_backward", TORCH_BOX(&fastrl::dae_targets_backward<fastrl::Cpu>));
}
