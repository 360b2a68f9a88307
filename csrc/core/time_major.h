// What every op over a rollout shares: views of rows and flags, and how a formula is laid over them for the reverse scan.
#pragma once

#include "core/recurrence.h"
#include "core/tensor.h"

namespace fastrl {

// The flags of a rollout, [T, N] each; without `valid` every row is a transition.
struct RolloutFlags {
  View<const uint8_t> terminated, truncated, valid;
};

// One element as a formula sees it: the inputs, and masks that turn what must not count into 0, whatever it is.
template <class T, int kInputs>
struct Here {
  using Acc = Accumulate<T>;
  Acc input[kInputs];
  Mask<Acc> bootstraps;  // the step did not terminate
  Mask<Acc> goes_on;     // nor was it truncated, and it is a transition
  Mask<Acc> counts;      // it is a transition
};

// An op over [T, N]: a formula with
//     kInputs, kOutputs        how many tensors it reads and writes
//     kStart                   the input whose last row is x_T, or -1 for x_T = 0
//     step(here)               the Affine that takes x_{t+1} to x_t
//     results(here, x, next)   what is written, from x_t and x_{t+1}
template <class T, class Formula>
struct TimeMajor {
  using Element = T;
  using Acc = Accumulate<T>;
  static constexpr int kInputs = Formula::kInputs, kOutputs = Formula::kOutputs;

  int64_t num_steps, num_envs;
  View<const T> inputs[kInputs];  // [T, N] each; an input seen from the step after is a view that starts a row later
  RolloutFlags flags;
  View<T> outputs[kOutputs];  // [T, N], contiguous
  Formula formula;

  // One row, seen from its first column; with unit stride and contiguous tensors it may be read on into the rows that follow.
  template <bool kUnitStride, bool kMasked>
  struct Row {
    const T* input[kInputs];
    int64_t stride[kInputs];
    const uint8_t *terminated, *truncated, *valid;
    int64_t terminated_stride, truncated_stride, valid_stride;
    Formula formula;  // a copy: compilers then know that no output overwrites its numbers

    FASTRL_HD static int64_t at(int64_t n, int64_t stride) { return kUnitStride ? n : n * stride; }

    FASTRL_HD Here<T, kInputs> here(int64_t n) const {
      Here<T, kInputs> here;
      for (int i = 0; i < kInputs; ++i) here.input[i] = Acc(input[i][at(n, stride[i])]);
      const uint8_t ends = terminated[at(n, terminated_stride)];
      here.bootstraps = Mask<Acc>::unless(ends);
      here.goes_on = Mask<Acc>::unless(ends | truncated[at(n, truncated_stride)]);
      here.counts = Mask<Acc>::all();
      if (kMasked) {
        here.counts = ~Mask<Acc>::unless(valid[at(n, valid_stride)]);
        here.goes_on = here.goes_on & here.counts;
      }
      return here;
    }

    FASTRL_HD Affine<Acc> step(int64_t n) const { return formula.step(here(n)); }
    FASTRL_HD Results<T, kOutputs> results(int64_t n, Acc x, Acc next) const { return formula.results(here(n), x, next); }

    // Asks for the inputs of `count` elements ahead of their use; only for unit strides.
    FASTRL_HD void prefetch(int64_t first, int64_t count) const {
      for (int i = 0; i < kInputs; ++i) prefetch_lines(input[i] + first, count);
      prefetch_lines(terminated + first, count);
      prefetch_lines(truncated + first, count);
      if (kMasked) prefetch_lines(valid + first, count);
    }
  };

  template <bool kUnitStride, bool kMasked>
  FASTRL_HD Row<kUnitStride, kMasked> row(int64_t t, int64_t first_column) const {
    Row<kUnitStride, kMasked> row{{},
                                  {},
                                  flags.terminated.at(t, first_column),
                                  flags.truncated.at(t, first_column),
                                  kMasked ? flags.valid.at(t, first_column) : nullptr,
                                  flags.terminated.env_stride,
                                  flags.truncated.env_stride,
                                  flags.valid.env_stride,
                                  formula};
    for (int i = 0; i < kInputs; ++i) {
      row.input[i] = inputs[i].at(t, first_column);
      row.stride[i] = inputs[i].env_stride;
    }
    return row;
  }

  // x_T of a column
  FASTRL_HD Acc start(int64_t n) const {
    if constexpr (Formula::kStart >= 0)
      return Acc(*inputs[Formula::kStart].at(num_steps - 1, n));
    else
      return Acc(0);
  }

  bool masked() const { return flags.valid.data != nullptr; }
  bool unit_stride() const {
    return all_views([](const auto& view) { return view.env_stride == 1; });
  }
  bool contiguous() const {
    return all_views([this](const auto& view) { return view.env_stride == 1 && view.step_stride == num_envs; });
  }

 private:
  template <class Holds>
  bool all_views(const Holds& holds) const {
    bool all = holds(flags.terminated) && holds(flags.truncated) && (!masked() || holds(flags.valid));
    for (const auto& input : inputs) all = all && holds(input);
    for (const auto& output : outputs) all = all && holds(output);
    return all;
  }
};

// A view that starts at a later row: what an input holds for the step after.
template <class T>
View<T> later(const View<T>& view, int64_t rows = 1) {
  return {view.row(rows), view.step_stride, view.env_stride};
}

// A view from the last of `rows` rows to the first: what runs forwards in time is a reverse scan over such views.
template <class T>
View<T> backwards(const View<T>& view, int64_t rows) {
  return view.data == nullptr ? view : View<T>{view.row(rows - 1), -view.step_stride, view.env_stride};
}

// The tensors of a call, looked at one after the other; each complaint names op and argument.
class RolloutCheck {
 public:
  RolloutCheck(const char* op, const char* first_name, const Tensor& first) : op_(op), first_(first) {
    FASTRL_CHECK(first.dim() == 2, op, ": ", first_name, " must have shape [T, N]");
    num_steps = first.size(0);
    num_envs = first.size(1);
  }

  void rows(const char* name, const Tensor& tensor, int64_t more_rows = 0) const {
    check_matrix(op_, name, tensor, num_steps + more_rows, num_envs);
    check_like(op_, name, tensor, first_.scalar_type(), first_);
  }

  RolloutFlags flags(const Tensor& terminated, const Tensor& truncated, const std::optional<Tensor>& valid) const {
    return {flag("terminated", terminated), flag("truncated", truncated), valid ? flag("valid", *valid) : View<const uint8_t>{}};
  }

  bool empty() const { return num_steps == 0 || num_envs == 0; }
  Tensor new_output() const { return new_matrix(first_, num_steps, num_envs); }

  int64_t num_steps, num_envs;

 private:
  View<const uint8_t> flag(const char* name, const Tensor& tensor) const {
    check_matrix(op_, name, tensor, num_steps, num_envs);
    check_like(op_, name, tensor, ScalarType::Bool, first_);
    return view_of<const uint8_t>(tensor);
  }

  const char* op_;
  const Tensor& first_;
};

}  // namespace fastrl
