// Division by a number that stays the same: a multiplication in place of an instruction that takes many times as long, above all on a GPU.
#pragma once

#include "core/host_device.h"

namespace fastrl {

// Whole numbers in [0, 2^63) divided by one in [1, 2^63). With 2^l >= d > 2^(l-1) and m = ceil(2^(63+l) / d), n / d is n m / 2^(63+l)
// rounded down: m fits into 64 bits, and is too large by too little to matter below 2^63.
class Divisor {
 public:
  struct Split {
    int64_t quotient, remainder;
  };

  Divisor() : Divisor(1) {}

  explicit Divisor(int64_t divisor) : divisor_(divisor) {
    while ((uint64_t{1} << shift_) < static_cast<uint64_t>(divisor)) ++shift_;
    const Wide numerator = Wide{1} << (63 + shift_);
    multiplier_ = static_cast<uint64_t>((numerator + static_cast<Wide>(divisor - 1)) / static_cast<Wide>(divisor));
  }

  FASTRL_HD Split split(int64_t n) const {
    const auto quotient = static_cast<int64_t>(high_half(multiplier_, 2 * static_cast<uint64_t>(n)) >> shift_);
    return {quotient, n - quotient * divisor_};
  }

  FASTRL_HD int64_t value() const { return divisor_; }

 private:
  __extension__ typedef unsigned __int128 Wide;

  FASTRL_HD static uint64_t high_half(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
    return __umul64hi(a, b);
#else
    return static_cast<uint64_t>((static_cast<Wide>(a) * b) >> 64);
#endif
  }

  int64_t divisor_;
  uint64_t multiplier_ = 0;
  int shift_ = 0;
};

}  // namespace fastrl
