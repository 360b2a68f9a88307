// A GPU's warps, lane after lane on the CPU.
#pragma once

#include "core/cpu.h"
#include "core/warp_team.h"

namespace fastrl {

template <class T>
struct EmulatedAcross {
  static constexpr int kLanes = 32;
  T values[kLanes];

  template <class F>
  static EmulatedAcross make(const F& f) {
    EmulatedAcross across;
    for (int lane = 0; lane < kLanes; ++lane) across.values[lane] = f(lane);
    return across;
  }

  T at(int lane) const { return values[lane]; }
  T from(int lane) const { return values[lane]; }

  EmulatedAcross swapped(int distance) const {
    return make([&](int lane) { return values[lane ^ distance]; });
  }

  static uint32_t votes(const EmulatedAcross& flags) {
    uint32_t votes = 0;
    for (int lane = 0; lane < kLanes; ++lane) votes |= static_cast<uint32_t>(flags.values[lane]) << lane;
    return votes;
  }
};

struct EmulatedWarps : Cpu {
  static constexpr bool kInOrder = false;

  template <class Body>
  static void for_each_team(const Body& body, int64_t units, double, int32_t) {
    const WarpTeam<typename Body::Acc, 2, EmulatedAcross> team(body.row_size());  // rows of more than 64 take several panels
    for (int64_t unit = 0; unit < units; ++unit) body(team, unit);
  }
};

}  // namespace fastrl
