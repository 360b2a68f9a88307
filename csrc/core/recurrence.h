// The reverse linear recurrence x_t = offset_t + factor_t * x_{t+1} behind every return and advantage estimate.
#pragma once

#include "core/host_device.h"

namespace fastrl {

// One step of the recurrence, or several composed: x -> offset + factor * x.
template <class Acc>
struct Affine {
  Acc factor;
  Acc offset;

  // A zero factor cuts the trace: whatever lies beyond, not-a-number too, has no way in. A product would let it through.
  FASTRL_HD Acc operator()(Acc x) const { return factor != Acc(0) ? offset + factor * x : offset; }
};

// The steps `now` and then `later` (further on in time) as one: now(later(x)).
template <class Acc>
FASTRL_HD Affine<Acc> compose(const Affine<Acc>& now, const Affine<Acc>& later) {
  return {now.factor * later.factor, now(later.offset)};
}

// What an op writes for one element of its recurrence.
template <class T, int kCount>
struct Results {
  T value[kCount];
};

}  // namespace fastrl
