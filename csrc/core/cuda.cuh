// The CUDA backend: launches, streams, device guards and launch checks live here and nowhere else.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>

#include "core/block_scan.h"
#include "core/groups.h"
#include "core/rows.h"
#include "core/tensor.h"

namespace fastrl {

constexpr int kRowThreads = 256;  // of a block that does rows

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

// A row is done by threadIdx.x and its neighbours in the block, several rows of a block by threadIdx.y.
template <class Op>
__global__ void __launch_bounds__(kRowThreads) for_each_row_kernel(const Op op) {
#if defined(__CUDA_ARCH__)
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.y;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y; row < op.rows; row += step) {
    const auto at = op.at(row);
    for (int64_t i = threadIdx.x; i < op.columns; i += blockDim.x) op.compute(at, i, i + 1, op.out + row * op.columns + i);
  }
#endif
}

struct Cuda {
  static constexpr bool kInOrder = false;

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

  // see rows.h
  template <class Op>
  static void for_each_row(const Op& op, int32_t device) {
    if (op.rows == 0 || op.columns == 0) return;
    const torch::stable::accelerator::DeviceGuard guard(device);
    const int width = next_power_of_two(op.columns, kRowThreads / 2), height = kRowThreads / width;
    const int64_t wanted = (op.rows + height - 1) / height;
    const int64_t blocks = std::min(wanted, resident_threads(device) * 4 / kRowThreads);
    for_each_row_kernel<<<static_cast<unsigned>(blocks), dim3(width, height), 0, stream(device)>>>(op);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  // In units as wide as sizes and addresses allow.
  template <class Op>
  static void gather_rows(const Op& op, int32_t device) {
    for_unit<uint4>(op.alignment(), [&](auto tag) { for_each_row(UnitRows<typename decltype(tag)::type, Op>(op), device); });
  }

  // `keys` [M] int64 in [0, destinations], grouped; see groups.h. Defined in cuda_groups.cu: sorting takes long to compile.
  static Groups group(const Tensor& keys, int64_t destinations, int32_t device);

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

 protected:
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
