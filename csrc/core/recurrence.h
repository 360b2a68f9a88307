// The reverse linear recurrence x_t = offset_t + factor_t * x_{t+1} behind every return and advantage estimate.
#pragma once

#include <cstring>

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
  return {now.factor != Acc(0) ? now.factor * later.factor : Acc(0), now(later.offset)};
}

// All ones or all zeros, as wide as the numbers it is applied to. Compilers turn a choice by a byte into slow code when bytes and
// numbers fill different numbers of vectors; they turn this into a widening load and three plain instructions.
template <class Acc>
struct Mask {
  using Bits = std::conditional_t<sizeof(Acc) == 8, uint64_t, uint32_t>;
  Bits bits;

  // ones where the flag is not set: 0 - 1 wraps to a number with the top bit set, 1..255 - 1 does not
  FASTRL_HD static Mask unless(uint8_t flag) { return {Bits(0) - ((Bits(flag) - 1) >> (8 * sizeof(Bits) - 1))}; }

  FASTRL_HD static Mask all() { return {~Bits(0)}; }

  FASTRL_HD Mask operator&(Mask other) const { return {bits & other.bits}; }
  FASTRL_HD Mask operator~() const { return {~bits}; }

  // `set` where the mask is ones, `unset` where it is zeros
  FASTRL_HD Acc choose(Acc set, Acc unset) const {
    Bits image, other;
    memcpy(&image, &set, sizeof(Acc));
    memcpy(&other, &unset, sizeof(Acc));
    image = (image & bits) | (other & ~bits);
    memcpy(&set, &image, sizeof(Acc));
    return set;
  }

  // x, or 0 whatever x is, not-a-number too
  FASTRL_HD Acc operator()(Acc x) const {
    Bits image;
    memcpy(&image, &x, sizeof(Acc));
    image &= bits;
    memcpy(&x, &image, sizeof(Acc));
    return x;
  }
};

// What an op writes for one element of its recurrence.
template <class T, int kCount>
struct Results {
  T value[kCount];
};

}  // namespace fastrl
