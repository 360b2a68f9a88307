// Generalized advantage estimation: A_t = delta_t + gamma lambda go_t A_{t+1}, delta_t = r_t + gamma nt_t V_{t+1} - V_t.
#pragma once

#include "core/time_major.h"

namespace fastrl {

template <class T>
struct GaeFormula {
  using Acc = Accumulate<T>;
  enum Input { kReward, kValue, kNextValue };
  static constexpr int kInputs = 3, kOutputs = 2, kStart = -1;
  using At = Here<T, kInputs>;

  Acc gamma, trace;  // gamma, gamma * lambda

  // Masks, not products with 0: what is not finite on a reset row, or behind a termination, stays there.
  FASTRL_HD Affine<Acc> step(const At& here) const {
    const Acc next = here.bootstraps(gamma * here.input[kNextValue]);
    return {here.goes_on(trace), here.counts((here.input[kReward] + next) - here.input[kValue])};
  }

  FASTRL_HD Results<T, kOutputs> results(const At& here, Acc advantage, Acc) const {
    return {{T(advantage), T(advantage + here.input[kValue])}};
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> gae(const Tensor& rewards,
                               const Tensor& values,
                               const Tensor& terminated,
                               const Tensor& truncated,
                               double gamma,
                               double gae_lambda,
                               const std::optional<Tensor>& valid) {
  const RolloutCheck check("gae", "rewards", rewards);
  check.rows("values", values, 1);
  const RolloutFlags flags = check.flags(terminated, truncated, valid);
  check_fraction("gae", "gamma", gamma);
  check_fraction("gae", "gae_lambda", gae_lambda);

  Tensor advantages = check.new_output(), returns = check.new_output();
  for_floating_type("gae", "rewards", rewards, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (check.empty()) return;
    const View<const T> value = view_of<const T>(values);
    const TimeMajor<T, GaeFormula<T>> op{check.num_steps,
                                         check.num_envs,
                                         {view_of<const T>(rewards), value, later(value)},
                                         flags,
                                         {view_of<T>(advantages), view_of<T>(returns)},
                                         {static_cast<Acc>(gamma), static_cast<Acc>(gamma * gae_lambda)}};
    Backend::reverse_scan(op, rewards.get_device_index());
  });
  return {advantages, returns};
}

}  // namespace fastrl
