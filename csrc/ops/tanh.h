// tanh, fast: the activation of every small policy network, where torch's exact one is a good part of the learning time on a CPU.
#pragma once

#include <cmath>

#include "core/tensor.h"

namespace fastrl {

// x P(x²) / Q(x²), fitted to a relative error of 2.2e-8 on [-9, 9], beyond which tanh is ±1 in float32. Rounding makes it 3.2e-7 at most.
// Plain arithmetic, so that it vectorises; NaN passes every comparison by and stays.
FASTRL_HD float fast_tanh(float x) {
  x = x > 9.0f ? 9.0f : x;
  x = x < -9.0f ? -9.0f : x;
  const float z = x * x;
  float p = 1.3266126451828593e-08f;
  p = p * z + 2.0545336892167663e-05f;
  p = p * z + 0.0034917182863726803f;
  p = p * z + 0.13377768050016528f;
  p = p * z + 0.9999999785597391f;
  float q = 7.740371327457163e-07f;
  q = q * z + 0.0003279303790622203f;
  q = q * z + 0.025862262446497256f;
  q = q * z + 0.46711082820190936f;
  q = q * z + 1.0f;
  const float y = x * p / q;
  const float capped = y > 1.0f ? 1.0f : y;
  return capped < -1.0f ? -1.0f : capped;
}

FASTRL_HD double fast_tanh(double x) { return std::tanh(x); }

// One element of a contiguous tensor.
template <class T>
struct Tanh {
  const T* x;
  T* y;

  FASTRL_HD void operator()(int64_t i) const { y[i] = static_cast<T>(fast_tanh(static_cast<Accumulate<T>>(x[i]))); }
};

template <class Backend>
Tensor tanh_op(const Tensor& x) {
  FASTRL_CHECK(x.is_contiguous(), "tanh: x must be contiguous");
  Tensor y = torch::stable::empty_like(x);
  for_floating_type("tanh", "x", x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Backend::for_each(Tanh<T>{static_cast<const T*>(x.data_ptr()), static_cast<T*>(y.data_ptr())}, x.numel(), x.get_device_index());
  });
  return y;
}

}  // namespace fastrl
