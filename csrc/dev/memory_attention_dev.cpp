// memory_attention as a GPU's warps compute it, lane after lane on the CPU: torch.ops.fastrl_dev. Never part of a wheel.
#include "core/cpu.h"
#include "core/warp_team.h"
#include "ops/memory_attention_backward.h"

namespace fastrl {
namespace {

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

}  // namespace
}  // namespace fastrl

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def(
      "memory_attention_warps(Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask=None, float? scale=None)"
      " -> (Tensor out, Tensor statistics)");
  m.def(
      "memory_attention_to_query_warps(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> Tensor");
  m.def(
      "memory_attention_to_bank_warps(Tensor gradient, Tensor query, Tensor key, Tensor value, Tensor episode, Tensor index, Tensor? mask,"
      " float? scale, Tensor out, Tensor statistics) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("memory_attention_warps", TORCH_BOX(&fastrl::memory_attention<fastrl::EmulatedWarps>));
  m.impl("memory_attention_to_query_warps", TORCH_BOX(&fastrl::memory_attention_to_query<fastrl::EmulatedWarps>));
  m.impl("memory_attention_to_bank_warps", TORCH_BOX(&fastrl::memory_attention_to_bank<fastrl::EmulatedWarps>));
}
