// Direct advantage estimation: y_t = r_t - A_t + gamma y_{t+1}, y_T = V_T; a truncation bootstraps from V_{t+1}, a termination from 0.
#pragma once

#include "core/time_major.h"

namespace fastrl {

template <class T>
struct DaeFormula {
  using Acc = Accumulate<T>;
  enum Input { kReward, kAdvantage, kValue, kNextValue };
  static constexpr int kInputs = 4, kOutputs = 1, kStart = kNextValue;
  using At = Here<T, kInputs>;

  Acc gamma;

  FASTRL_HD Affine<Acc> step(const At& here) const {
    const Mask<Acc> cut = here.bootstraps & ~here.goes_on;
    const Acc target = (here.input[kReward] - here.input[kAdvantage]) + cut(gamma * here.input[kNextValue]);
    return {here.goes_on(gamma), here.counts.choose(target, here.input[kValue])};
  }

  FASTRL_HD Results<T, kOutputs> results(const At&, Acc x, Acc) const { return {{T(x)}}; }
};

// The gradient of all targets, forwards in time: G_t = g_t + gamma go_{t-1} G_{t-1} is what reaches y_t. The scan is over what is handed
// on, z_t = gamma go_t G_t, which needs the flags of row t alone.
template <class T>
struct DaeGradientFormula {
  using Acc = Accumulate<T>;
  static constexpr int kInputs = 1, kOutputs = 3, kStart = -1;
  using At = Here<T, kInputs>;

  Acc gamma;

  FASTRL_HD Affine<Acc> step(const At& here) const { return {here.goes_on(gamma), here.goes_on(gamma * here.input[0])}; }

  // to A_t, to V_{t+1} where the trace is cut by a truncation, to V_t where the row is no transition
  FASTRL_HD Results<T, kOutputs> results(const At& here, Acc, Acc handed_on) const {
    const Acc gradient = here.input[0] + handed_on;
    const Mask<Acc> cut = here.bootstraps & here.counts & ~here.goes_on;
    return {{T(here.counts(-gradient)), T(cut(gamma * gradient)), T((~here.counts)(gradient))}};
  }
};

template <class Backend>
Tensor dae_targets(const Tensor& rewards,
                   const Tensor& advantages,
                   const Tensor& values,
                   const Tensor& terminated,
                   const Tensor& truncated,
                   double gamma,
                   const std::optional<Tensor>& valid) {
  const RolloutCheck check("dae_targets", "rewards", rewards);
  check.rows("advantages", advantages);
  check.rows("values", values, 1);
  const RolloutFlags flags = check.flags(terminated, truncated, valid);
  check_fraction("dae_targets", "gamma", gamma);

  Tensor targets = check.new_output();
  for_floating_type("dae_targets", "rewards", rewards, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (check.empty()) return;
    const View<const T> value = view_of<const T>(values);
    const TimeMajor<T, DaeFormula<T>> op{check.num_steps,
                                         check.num_envs,
                                         {view_of<const T>(rewards), view_of<const T>(advantages), value, later(value)},
                                         flags,
                                         {view_of<T>(targets)},
                                         {static_cast<Accumulate<T>>(gamma)}};
    Backend::reverse_scan(op, rewards.get_device_index());
  });
  return targets;
}

// Gives V the gradients that its rows have been found to have a share in; element i of `values`, [T + 1, N] contiguous.
template <class T>
struct GatherValueGradient {
  using Acc = Accumulate<T>;
  int64_t num_steps, num_envs;
  const T *to_advantage, *to_next_value, *to_value;  // [T, N], contiguous
  RolloutFlags flags;
  Acc gamma;
  T* out;

  FASTRL_HD void operator()(int64_t i) const {
    Acc sum = i < num_steps * num_envs ? Acc(to_value[i]) : Acc(0);
    if (i >= num_envs) sum += Acc(to_next_value[i - num_envs]);
    if (i >= num_steps * num_envs) sum += handed_on(i - num_steps * num_envs);
    out[i] = T(sum);
  }

  // The last target bootstraps from V_T where nothing has ended.
  FASTRL_HD Acc handed_on(int64_t n) const {
    if (num_steps == 0) return Acc(0);
    const int64_t last = num_steps - 1;
    const bool ends = (*flags.terminated.at(last, n) | *flags.truncated.at(last, n)) != 0;
    const bool counts = flags.valid.data == nullptr || *flags.valid.at(last, n) != 0;
    return ends || !counts ? Acc(0) : -gamma * Acc(to_advantage[last * num_envs + n]);
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> dae_targets_backward(
    const Tensor& gradient, const Tensor& terminated, const Tensor& truncated, double gamma, const std::optional<Tensor>& valid) {
  const RolloutCheck check("dae_targets_backward", "gradient", gradient);
  const RolloutFlags flags = check.flags(terminated, truncated, valid);
  check_fraction("dae_targets_backward", "gamma", gamma);

  Tensor to_advantages = check.new_output(), to_next_values = check.new_output(), to_values = check.new_output();
  Tensor values = new_matrix(gradient, check.num_steps + 1, check.num_envs);
  for_floating_type("dae_targets_backward", "gradient", gradient, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (check.num_envs == 0) return;
    if (check.num_steps > 0) {
      const auto reversed = [&](const auto& view) { return backwards(view, check.num_steps); };
      const RolloutFlags reversed_flags{reversed(flags.terminated), reversed(flags.truncated), reversed(flags.valid)};
      const TimeMajor<T, DaeGradientFormula<T>> op{
          check.num_steps,
          check.num_envs,
          {reversed(view_of<const T>(gradient))},
          reversed_flags,
          {reversed(view_of<T>(to_advantages)), reversed(view_of<T>(to_next_values)), reversed(view_of<T>(to_values))},
          {static_cast<Acc>(gamma)}};
      Backend::reverse_scan(op, gradient.get_device_index());
    }
    Backend::for_each(GatherValueGradient<T>{check.num_steps,
                                             check.num_envs,
                                             static_cast<const T*>(to_advantages.data_ptr()),
                                             static_cast<const T*>(to_next_values.data_ptr()),
                                             static_cast<const T*>(to_values.data_ptr()),
                                             flags,
                                             static_cast<Acc>(gamma),
                                             static_cast<T*>(values.data_ptr())},
                      (check.num_steps + 1) * check.num_envs,
                      gradient.get_device_index());
  });
  return {to_advantages, values};
}

}  // namespace fastrl
