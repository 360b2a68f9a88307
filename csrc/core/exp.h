// The exponential in plain arithmetic: it vectorises inside any loop and gives the same bits at every instruction level.
#pragma once

#include <cmath>
#include <cstring>

#include "core/host_device.h"

namespace fastrl {

// 2^n for n in [-126, 127]; unsigned, for what NaN leaves of n may be any number
FASTRL_HD float power_of_two(int32_t n) {
  const uint32_t bits = (static_cast<uint32_t>(n) + 127u) << 23;
  float power;
  memcpy(&power, &bits, sizeof power);
  return power;
}

// eˣ = 2ⁿ eʳ, |r| <= ln 2 / 2: n and eʳ − 1, which for |x| < ln 2 / 2 is eˣ − 1, of small x to its own last bits. The polynomial was
// fitted to a relative error of 3.1e-9 in eʳ. Where x is beyond what the callers let through, n may be any number.
struct ReducedExp {
  int32_t n;
  float less_one;
};

FASTRL_HD ReducedExp reduced_exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: adding it rounds to a whole number, which the last bits of the sum spell
  const float sum = x * 1.44269504f + kRound;
  uint32_t spelt, origin;
  memcpy(&spelt, &sum, sizeof sum);
  memcpy(&origin, &kRound, sizeof kRound);
  const int32_t n = static_cast<int32_t>(spelt - origin);
  const float whole = sum - kRound;
  const float r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;  // ln 2 in two parts, the first with few bits: exact products
  float p = 0.001381459878757596f;
  p = p * r + 0.008368716575205326f;
  p = p * r + 0.04166838899254799f;
  p = p * r + 0.1666652113199234f;
  p = p * r + 0.4999999403953552f;
  return {n, p * (r * r) + r};
}

// eˣ, with rounding within one unit in the last place. Beyond the range of float32 it is 0 or infinity, NaN stays NaN.
FASTRL_HD float fast_exp(float x) {
  x = x > 89.0f ? 89.0f : x;  // eˣ is infinite from 88.73 on
  x = x < -104.0f ? -104.0f : x;
  const ReducedExp e = reduced_exp(x);
  const int32_t half = e.n >> 1;  // in two steps, for 2ⁿ alone may not be a float32 where the result is
  const int32_t rest = static_cast<int32_t>(static_cast<uint32_t>(e.n) - static_cast<uint32_t>(half));
  return (e.less_one + 1.0f) * power_of_two(half) * power_of_two(rest);
}

FASTRL_HD double fast_exp(double x) { return ::exp(x); }

struct FastExp {
  template <class T>
  FASTRL_HD T operator()(T x) const {
    return fast_exp(x);
  }
};

// eˣ − 1 of x < 0, as 2ⁿ (eʳ − 1) + (2ⁿ − 1): of small x nothing is lost to the subtraction. Of other x it is some number.
FASTRL_HD float fast_expm1_of_negative(float x) {
  const ReducedExp e = reduced_exp(x < -20.0f ? -20.0f : x);  // −1 from −17.33 on
  const float power = power_of_two(e.n);
  return e.less_one * power + (power - 1.0f);
}

FASTRL_HD double fast_expm1_of_negative(double x) { return ::expm1(x); }

}  // namespace fastrl
