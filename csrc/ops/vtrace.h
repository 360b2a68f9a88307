// V-trace: vs_t - V_t = rho_t delta_t + gamma lambda go_t c_t (vs_{t+1} - V_{t+1}), delta_t = r_t + gamma nt_t V_{t+1} - V_t.
#pragma once

#include "core/exp.h"
#include "core/time_major.h"

namespace fastrl {

template <class T>
struct VtraceFormula {
  using Acc = Accumulate<T>;
  enum Input { kReward, kValue, kNextValue, kLogRho };
  static constexpr int kInputs = 4, kOutputs = 2, kStart = -1;
  using At = Here<T, kInputs>;

  Acc gamma, trace, rho_clip, c_clip, pg_rho_clip;  // trace: gamma * lambda

  // NaN passes
  FASTRL_HD static Acc clipped(Acc ratio, Acc clip) { return ratio > clip ? clip : ratio; }

  FASTRL_HD Affine<Acc> step(const At& here) const {
    const Acc ratio = fast_exp(here.input[kLogRho]);
    const Acc next = here.bootstraps(gamma * here.input[kNextValue]);
    const Acc residual = (here.input[kReward] + next) - here.input[kValue];
    return {here.goes_on(trace * clipped(ratio, c_clip)), here.counts(clipped(ratio, rho_clip) * residual)};
  }

  // The policy's advantage bootstraps from vs_{t+1} where the trace goes on, from V_{t+1} where it is cut.
  FASTRL_HD Results<T, kOutputs> results(const At& here, Acc x, Acc next_x) const {
    const Acc next = here.bootstraps(gamma * (here.input[kNextValue] + here.goes_on(next_x)));
    const Acc residual = (here.input[kReward] + next) - here.input[kValue];
    const Acc advantage = clipped(fast_exp(here.input[kLogRho]), pg_rho_clip) * residual;
    return {{T(here.input[kValue] + x), T(here.counts(advantage))}};
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> vtrace(const Tensor& rewards,
                                  const Tensor& values,
                                  const Tensor& log_rhos,
                                  const Tensor& terminated,
                                  const Tensor& truncated,
                                  double gamma,
                                  double vtrace_lambda,
                                  double rho_clip,
                                  double c_clip,
                                  double pg_rho_clip,
                                  const std::optional<Tensor>& valid) {
  const RolloutCheck check("vtrace", "rewards", rewards);
  check.rows("values", values, 1);
  check.rows("log_rhos", log_rhos);
  const RolloutFlags flags = check.flags(terminated, truncated, valid);
  check_fraction("vtrace", "gamma", gamma);
  check_fraction("vtrace", "vtrace_lambda", vtrace_lambda);
  check_not_negative("vtrace", "rho_clip", rho_clip);
  check_not_negative("vtrace", "c_clip", c_clip);
  check_not_negative("vtrace", "pg_rho_clip", pg_rho_clip);

  Tensor targets = check.new_output(), pg_advantages = check.new_output();
  for_floating_type("vtrace", "rewards", rewards, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (check.empty()) return;
    const View<const T> value = view_of<const T>(values);
    const TimeMajor<T, VtraceFormula<T>> op{check.num_steps,
                                            check.num_envs,
                                            {view_of<const T>(rewards), value, later(value), view_of<const T>(log_rhos)},
                                            flags,
                                            {view_of<T>(targets), view_of<T>(pg_advantages)},
                                            {static_cast<Acc>(gamma),
                                             static_cast<Acc>(gamma * vtrace_lambda),
                                             static_cast<Acc>(rho_clip),
                                             static_cast<Acc>(c_clip),
                                             static_cast<Acc>(pg_rho_clip)}};
    Backend::reverse_scan(op, rewards.get_device_index());
  });
  return {targets, pg_advantages};
}

}  // namespace fastrl
