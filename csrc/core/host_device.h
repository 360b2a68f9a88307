// What both sides of every kernel share: the function marker, views of tensors, the type that accumulates.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstdint>
#include <type_traits>

#if defined(__CUDA_ARCH__)
#define FASTRL_UNROLL _Pragma("unroll")
#else
#define FASTRL_UNROLL
#endif

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
  FASTRL_HD T* at(int64_t t, int64_t n) const { return data + t * step_stride + n * env_stride; }
};

// Asks the processor for `count` elements that will be read soon; a hint, of no effect on results or on a GPU.
template <class T>
FASTRL_HD void prefetch_lines(const T* first, int64_t count) {
#if defined(__GNUC__) && !defined(__CUDA_ARCH__)
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t k = 0; k < count; k += kLine) __builtin_prefetch(first + k);
#else
  (void)first, (void)count;
#endif
}

}  // namespace fastrl
