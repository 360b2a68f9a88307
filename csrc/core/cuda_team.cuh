// Teams on a GPU: a warp each.
#pragma once

#include "core/cuda.cuh"
#include "core/warp_team.h"

namespace fastrl {

// A number in every lane of a warp, of which a thread holds its own.
template <class T>
struct DeviceAcross {
  static constexpr unsigned kAll = 0xffffffff;
  T value;

  template <class F>
  FASTRL_HD static DeviceAcross make(const F& f) {
#if defined(__CUDA_ARCH__)
    return {f(static_cast<int>(threadIdx.x % 32))};
#else
    return {f(0)};
#endif
  }

  FASTRL_HD T at(int) const { return value; }

  FASTRL_HD T from(int lane) const {
#if defined(__CUDA_ARCH__)
    return __shfl_sync(kAll, value, lane);
#else
    (void)lane;
    return value;
#endif
  }

  FASTRL_HD DeviceAcross swapped(int distance) const {
#if defined(__CUDA_ARCH__)
    return {__shfl_xor_sync(kAll, value, distance)};
#else
    (void)distance;
    return *this;
#endif
  }

  FASTRL_HD static uint32_t votes(const DeviceAcross& flags) {
#if defined(__CUDA_ARCH__)
    return __ballot_sync(kAll, flags.value);
#else
    return flags.value ? 1 : 0;
#endif
  }
};

constexpr int kTeamThreads = 128;  // of a block of teams: four warps

template <class Body, int kPanel>
__global__ void __launch_bounds__(kTeamThreads) for_each_team_kernel(const Body body, const int64_t units) {
#if defined(__CUDA_ARCH__)
  const WarpTeam<typename Body::Acc, kPanel, DeviceAcross> team(body.row_size());
  const int64_t step = static_cast<int64_t>(gridDim.x) * (kTeamThreads / 32);
  // the same for all lanes of a warp: none is left behind where they talk to each other
  for (int64_t unit = static_cast<int64_t>(blockIdx.x) * (kTeamThreads / 32) + threadIdx.x / 32; unit < units; unit += step)
    body(team, unit);
#endif
}

struct CudaTeams : Cuda {
  static constexpr bool kInOrder = false;  // all units are met at about the same time

  template <class Body>
  static void for_each_team(const Body& body, int64_t units, double /*operations*/, int32_t device) {
    if (units == 0) return;
    const torch::stable::accelerator::DeviceGuard guard(device);
    const int64_t wanted = (units + kTeamThreads / 32 - 1) / (kTeamThreads / 32);
    const auto blocks = static_cast<unsigned>(std::min<int64_t>(wanted, 0x7fffffff));
    const int64_t chunks = (body.row_size() + 31) / 32;
    // registers for as many chunks as a row has; a longer row is done in several panels
    const auto kernel = chunks <= 1   ? for_each_team_kernel<Body, 1>
                        : chunks <= 2 ? for_each_team_kernel<Body, 2>
                        : chunks <= 4 ? for_each_team_kernel<Body, 4>
                                      : for_each_team_kernel<Body, 8>;
    kernel<<<blocks, kTeamThreads, 0, stream(device)>>>(body, units);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

}  // namespace fastrl
