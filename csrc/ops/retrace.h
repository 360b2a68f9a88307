// Retrace: target_t = Q_t + delta_t + gamma go_t c_{t+1} (target_{t+1} - Q_{t+1}), delta_t = r_t + gamma nt_t E_{t+1} - Q_t.
#pragma once

#include "core/exp.h"
#include "core/time_major.h"

namespace fastrl {

// The scan is over z_t = c_t (target_t - Q_t), which needs the ratio of row t alone: no row looks at the ratio of the next.
template <class T>
struct RetraceFormula {
  using Acc = Accumulate<T>;
  enum Input { kReward, kQValue, kNextValue, kLogRho };
  static constexpr int kInputs = 4, kOutputs = 1, kStart = -1;
  using At = Here<T, kInputs>;

  Acc gamma, lambda;

  FASTRL_HD Acc residual(const At& here) const {
    return (here.input[kReward] + here.bootstraps(gamma * here.input[kNextValue])) - here.input[kQValue];
  }

  FASTRL_HD Affine<Acc> step(const At& here) const {
    const Acc log_rho = here.input[kLogRho];
    const Acc c = lambda * fast_exp(log_rho > Acc(0) ? Acc(0) : log_rho);
    const Acc offset = c != Acc(0) ? c * residual(here) : Acc(0);  // a zero cuts the trace, whatever the residual
    return {here.goes_on(c * gamma), here.counts(offset)};
  }

  FASTRL_HD Results<T, kOutputs> results(const At& here, Acc, Acc next) const {
    const Acc correction = Affine<Acc>{here.goes_on(gamma), residual(here)}(next);
    return {{T(here.input[kQValue] + here.counts(correction))}};
  }
};

template <class Backend>
Tensor retrace(const Tensor& rewards,
               const Tensor& q_values,
               const Tensor& next_values,
               const Tensor& log_rhos,
               const Tensor& terminated,
               const Tensor& truncated,
               double gamma,
               double retrace_lambda,
               const std::optional<Tensor>& valid) {
  const RolloutCheck check("retrace", "rewards", rewards);
  check.rows("q_values", q_values);
  check.rows("next_values", next_values);
  check.rows("log_rhos", log_rhos);
  const RolloutFlags flags = check.flags(terminated, truncated, valid);
  check_fraction("retrace", "gamma", gamma);
  check_fraction("retrace", "retrace_lambda", retrace_lambda);

  Tensor targets = check.new_output();
  for_floating_type("retrace", "rewards", rewards, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (check.empty()) return;
    const TimeMajor<T, RetraceFormula<T>> op{
        check.num_steps,
        check.num_envs,
        {view_of<const T>(rewards), view_of<const T>(q_values), view_of<const T>(next_values), view_of<const T>(log_rhos)},
        flags,
        {view_of<T>(targets)},
        {static_cast<Acc>(gamma), static_cast<Acc>(retrace_lambda)}};
    Backend::reverse_scan(op, rewards.get_device_index());
  });
  return targets;
}

}  // namespace fastrl
