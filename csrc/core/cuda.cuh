// The CUDA backend: launches, streams, device guards and launch checks live here and nowhere else.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "core/block_scan.h"
#include "core/tensor.h"

namespace fastrl {

// The threads of a block as block_scan wants them: each runs the body once, then waits for the others.
template <class Acc>
struct DeviceThreads {
  ThreadSteps<Acc> mine;

  template <class Body>
  __device__ __forceinline__ void each(const Body& body) {
    body(static_cast<int>(threadIdx.x), mine);
    __syncthreads();
  }
};

template <class Op, bool kMasked>
__global__ void __launch_bounds__(kBlockThreads) reverse_scan_kernel(const Op op, const BlockShape shape) {
#if defined(__CUDA_ARCH__)
  using Acc = typename Op::Acc;
  extern __shared__ __align__(16) unsigned char memory[];
  auto* shared = reinterpret_cast<Affine<Acc>*>(memory);
  auto* carry = reinterpret_cast<Acc*>(shared + shape.threads());
  DeviceThreads<Acc> threads;
  block_scan<Op, kMasked>(op, shape, static_cast<int64_t>(blockIdx.x) * shape.columns, threads, shared, carry);
#endif
}

template <class Body>
__global__ void __launch_bounds__(kBlockThreads) for_each_kernel(const Body body, const int64_t count) {
#if defined(__CUDA_ARCH__)
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) body(i);
#endif
}

struct Cuda {
  // body(i) for every i below `count`, in any order.
  template <class Body>
  static void for_each(const Body& body, int64_t count, int32_t device) {
    if (count == 0) return;
    const torch::stable::accelerator::DeviceGuard guard(device);
    const int64_t wanted = (count + kBlockThreads - 1) / kBlockThreads;
    const int64_t blocks = std::min(wanted, resident_threads(device) * 4 / kBlockThreads);
    for_each_kernel<<<static_cast<unsigned>(blocks), kBlockThreads, 0, stream(device)>>>(body, count);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  template <class Op>
  static void reverse_scan(const Op& op, int32_t device) {
    const torch::stable::accelerator::DeviceGuard guard(device);
    const BlockShape shape = choose_block(op.num_steps, op.num_envs, resident_threads(device));
    const int64_t blocks = (op.num_envs + shape.columns - 1) / shape.columns;
    FASTRL_CHECK(blocks <= 0x7fffffff, "reverse scan: too many columns for one launch");
    const size_t bytes = shape.threads() * sizeof(Affine<typename Op::Acc>) + shape.columns * sizeof(typename Op::Acc);
    const auto kernel = op.masked() ? reverse_scan_kernel<Op, true> : reverse_scan_kernel<Op, false>;
    kernel<<<static_cast<unsigned>(blocks), shape.threads(), bytes, stream(device)>>>(op, shape);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  static cudaStream_t stream(int32_t device) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &current));
    return static_cast<cudaStream_t>(current);
  }

  // Enough to keep every multiprocessor busy while half its threads wait for memory.
  static int64_t resident_threads(int32_t device) {
    int multiprocessors = 0;
    STD_CUDA_CHECK(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    return int64_t{1024} * multiprocessors;
  }
};

}  // namespace fastrl
