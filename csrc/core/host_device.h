// What both sides of every kernel share: the function marker, views of tensors, the type that accumulates.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <type_traits>

#if defined(__CUDACC__)
#define FASTRL_HD __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define FASTRL_HD inline __attribute__((always_inline))
#else
#define FASTRL_HD inline
#endif

namespace fastrl {

using BFloat16 = torch::headeronly::BFloat16;
using Half = torch::headeronly::Half;

// half precision accumulates in float32
template <class T>
using Accumulate = std::conditional_t<std::is_same_v<T, double>, double, float>;

// A time-major [T, N] tensor of any strides. Offsets are 64-bit: tensors above 2^31 elements are ordinary input.
template <class T>
struct View {
  T* data = nullptr;
  int64_t step_stride = 0;
  int64_t env_stride = 0;

  FASTRL_HD T* row(int64_t t) const { return data + t * step_stride; }
};

}  // namespace fastrl
