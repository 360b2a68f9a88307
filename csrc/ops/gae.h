// Generalized advantage estimation: A_t = delta_t + gamma lambda go_t A_{t+1}, delta_t = r_t + gamma nt_t V_{t+1} - V_t.
#pragma once

#include "core/recurrence.h"
#include "core/tensor.h"

namespace fastrl {

template <class T>
struct Gae {
  using Element = T;
  using Acc = Accumulate<T>;
  static constexpr int kOutputs = 2;  // advantages, returns

  int64_t num_steps, num_envs;
  View<const T> rewards, values;                     // [T, N], [T + 1, N]
  View<const uint8_t> terminated, truncated, valid;  // [T, N]; without `valid` every row is a transition
  Acc gamma, trace;                                  // gamma, gamma * lambda
  View<T> outputs[kOutputs];                         // [T, N], contiguous

  // One row, seen from its first column; with unit stride and contiguous tensors it may be read on into the rows that follow.
  template <bool kUnitStride, bool kMasked>
  struct Row {
    const T *reward, *value, *next_value;
    const uint8_t *terminated, *truncated, *valid;
    int64_t reward_stride, value_stride, terminated_stride, truncated_stride, valid_stride;
    Acc gamma, trace;

    FASTRL_HD static int64_t at(int64_t n, int64_t stride) { return kUnitStride ? n : n * stride; }

    // Masks, not products with 0: what is not finite on a reset row, or behind a termination, stays there.
    FASTRL_HD Affine<Acc> step(int64_t n) const {
      const uint8_t ends = terminated[at(n, terminated_stride)];
      const Mask<Acc> bootstraps = Mask<Acc>::unless(ends);
      const Mask<Acc> goes_on = Mask<Acc>::unless(ends | truncated[at(n, truncated_stride)]);
      const Acc next = bootstraps(gamma * Acc(next_value[at(n, value_stride)]));
      const Affine<Acc> step{goes_on(trace), (Acc(reward[at(n, reward_stride)]) + next) - Acc(value[at(n, value_stride)])};
      if (!kMasked) return step;
      const Mask<Acc> counts = ~Mask<Acc>::unless(valid[at(n, valid_stride)]);
      return {counts(step.factor), counts(step.offset)};
    }

    // Asks for the inputs of `count` elements ahead of their use; only for unit strides.
    FASTRL_HD void prefetch(int64_t first, int64_t count) const {
      prefetch_lines(reward + first, count);
      prefetch_lines(value + first, count);
      prefetch_lines(terminated + first, count);
      prefetch_lines(truncated + first, count);
      if (kMasked) prefetch_lines(valid + first, count);
    }

    FASTRL_HD Results<T, kOutputs> results(int64_t n, Acc advantage) const {
      return {{T(advantage), T(advantage + Acc(value[at(n, value_stride)]))}};
    }
  };

  template <bool kUnitStride, bool kMasked>
  FASTRL_HD Row<kUnitStride, kMasked> row(int64_t t, int64_t first_column) const {
    return {rewards.at(t, first_column),
            values.at(t, first_column),
            values.at(t + 1, first_column),
            terminated.at(t, first_column),
            truncated.at(t, first_column),
            kMasked ? valid.at(t, first_column) : nullptr,
            rewards.env_stride,
            values.env_stride,
            terminated.env_stride,
            truncated.env_stride,
            valid.env_stride,
            gamma,
            trace};
  }

  bool masked() const { return valid.data != nullptr; }
  bool unit_stride() const {
    return all_views([](const auto& view) { return view.env_stride == 1; });
  }
  bool contiguous() const {
    return all_views([this](const auto& view) { return view.env_stride == 1 && view.step_stride == num_envs; });
  }

 private:
  template <class Holds>
  bool all_views(const Holds& holds) const {
    return holds(rewards) && holds(values) && holds(terminated) && holds(truncated) && (!masked() || holds(valid));
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
  FASTRL_CHECK(rewards.dim() == 2, "gae: rewards must have shape [T, N]");
  const int64_t num_steps = rewards.size(0), num_envs = rewards.size(1);
  check_matrix("gae", "values", values, num_steps + 1, num_envs);
  check_like("gae", "values", values, rewards.scalar_type(), rewards);
  const auto check_flag = [&](const char* name, const Tensor& flag) {
    check_matrix("gae", name, flag, num_steps, num_envs);
    check_like("gae", name, flag, ScalarType::Bool, rewards);
  };
  check_flag("terminated", terminated);
  check_flag("truncated", truncated);
  if (valid) check_flag("valid", *valid);
  check_fraction("gae", "gamma", gamma);
  check_fraction("gae", "gae_lambda", gae_lambda);

  Tensor advantages = new_matrix(rewards, num_steps, num_envs);
  Tensor returns = new_matrix(rewards, num_steps, num_envs);
  for_floating_type("gae", "rewards", rewards, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (num_steps == 0 || num_envs == 0) return;
    const Gae<T> op{num_steps,
                    num_envs,
                    view_of<const T>(rewards),
                    view_of<const T>(values),
                    view_of<const uint8_t>(terminated),
                    view_of<const uint8_t>(truncated),
                    valid ? view_of<const uint8_t>(*valid) : View<const uint8_t>{},
                    static_cast<Acc>(gamma),
                    static_cast<Acc>(gamma * gae_lambda),
                    {view_of<T>(advantages), view_of<T>(returns)}};
    Backend::reverse_scan(op, rewards.get_device_index());
  });
  return {advantages, returns};
}

}  // namespace fastrl
