// elu with alpha 1, fast: the activation of MPO's networks, where torch's takes several times as long on a CPU.
#pragma once

#include "core/exp.h"
#include "core/tensor.h"

namespace fastrl {

// One element of a contiguous tensor. Both sides are worked out and one is taken, so that it vectorises; NaN and −0 are not below 0 and
// stay.
template <class T>
struct Elu {
  const T* x;
  T* y;

  FASTRL_HD void operator()(int64_t i) const {
    const auto here = static_cast<Accumulate<T>>(x[i]);
    const auto below = fast_expm1_of_negative(here);
    y[i] = static_cast<T>(here < 0 ? below : here);
  }
};

template <class Backend>
Tensor elu_op(const Tensor& x) {
  FASTRL_CHECK(x.is_contiguous(), "elu: x must be contiguous");
  Tensor y = torch::stable::empty_like(x);
  for_floating_type("elu", "x", x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    Backend::for_each(Elu<T>{static_cast<const T*>(x.data_ptr()), static_cast<T*>(y.data_ptr())}, x.numel(), x.get_device_index());
  });
  return y;
}

}  // namespace fastrl
