// The CPU backend.
#pragma once

#include "core/recurrence.h"
#include "core/tensor.h"

namespace fastrl {

struct Cpu {
  template <class Op>
  static void reverse_scan(const Op& op, int32_t /*device*/) {
    if (op.masked())
      scan_columns<Op, true>(op);
    else
      scan_columns<Op, false>(op);
  }

 private:
  template <class Op, bool kMasked>
  static void scan_columns(const Op& op) {
    for (int64_t n = 0; n < op.num_envs; ++n) {
      typename Op::Acc carry = 0;
      for (int64_t t = op.num_steps - 1; t >= 0; --t) {
        const auto row = op.template row<false, kMasked>(t);
        carry = row.step(n)(carry);
        const auto results = row.results(n, carry);
        for (int i = 0; i < Op::kOutputs; ++i) op.outputs[i].row(t)[n] = results.value[i];
      }
    }
  }
};

}  // namespace fastrl
