// tanh of layer norm, in one pass over memory: what follows the first linear layer of MPO's networks. The critic's is a sum, of a part that
// depends on the state and one that depends on the action; the state's, one row for many, is added on the way.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/divisor.h"
#include "core/team.h"
#include "core/tensor.h"
#include "ops/tanh.h"

namespace fastrl {

// Two rows added up, and how far a row lies from its mean, squared: chunk by chunk, as they are read.
template <class Row, class Vector>
struct SumOfRows {
  Row one, other;

  FASTRL_HD Vector chunk(int64_t c) const {
    Vector sum = one.chunk(c);
    sum += other.chunk(c);
    return sum;
  }
};

template <class Row, class Vector>
struct SquaresOfRow {
  Row row;
  Vector mean;

  FASTRL_HD Vector chunk(int64_t c) const {
    const Vector differs = row.chunk(c) - mean;
    return differs * differs;
  }
};

// The unit is one row.
template <class T>
struct LayerNormTanh {
  using Acc = Accumulate<T>;

  Rows<const T> x, weight, bias;
  Rows<const T> shift;  // no data: none
  Divisor group;        // rows that have a row of `shift` in common
  Acc eps;
  Rows<T> out;

  FASTRL_HD int64_t row_size() const { return x.size; }
  int64_t most_places() const { return 0; }

  template <class Team>
  FASTRL_HD void operator()(const Team& team, int64_t row) const {
    auto given = team.hold(0, x, row);
    if (shift.data == nullptr)
      normalise(team, row, given);
    else
      normalise(team, row, SumOfRows<decltype(given), typename Team::Vector>{given, team.hold(1, shift, group.split(row).quotient)});
  }

  // First the mean, then the squares of what differs from it: nothing is lost where the mean is large.
  template <class Team, class Row>
  FASTRL_HD void normalise(const Team& team, int64_t row, const Row& given) const {
    using Vector = typename Team::Vector;
    const auto size = static_cast<Acc>(x.size);
    const Vector mean = Vector::all(add_up<Team>(given) / size);
    const Acc variance = add_up<Team>(SquaresOfRow<Row, Vector>{given, mean}) / size;
    const Vector scale = Vector::all(Acc(1) / std::sqrt(variance + eps));
    const auto weights = team.hold(2, weight, 0), biases = team.hold(3, bias, 0);
    for (int64_t c = 0; c < team.chunks; ++c) {
      Vector y = (given.chunk(c) - mean) * scale * weights.chunk(c);
      y += biases.chunk(c);
      team.put(out, row, c, y.map(FastTanh{}));
    }
  }

  // The sum over a row, of four chunks side by side: an addition need not wait for the one before it.
  template <class Team, class Row>
  FASTRL_HD Acc add_up(const Row& row) const {
    using Vector = typename Team::Vector;
    constexpr int kTogether = 4;
    const int64_t whole = x.size / Team::kLanes;
    Vector sum[kTogether];
    for (int i = 0; i < kTogether; ++i) sum[i] = Vector::all(0);
    int64_t c = 0;
    for (; c + kTogether <= whole; c += kTogether)
      for (int i = 0; i < kTogether; ++i) sum[i] += row.chunk(c + i);
    for (; c < whole; ++c) sum[0] += row.chunk(c);
    const auto left = static_cast<int>(x.size - whole * Team::kLanes);
    if (left > 0) sum[1] += row.chunk(whole).first(left, 0);
    sum[0] += sum[1];
    sum[2] += sum[3];
    sum[0] += sum[2];
    return sum[0].sum();
  }
};

template <class T>
Rows<T> rows_of(const Tensor& matrix) {
  return {static_cast<T*>(matrix.data_ptr()), matrix.stride(0), matrix.stride(1), matrix.size(1)};
}

template <class T>
Rows<T> one_row_of(const Tensor& vector) {
  return {static_cast<T*>(vector.data_ptr()), 0, vector.stride(0), vector.size(0)};
}

template <class T>
LayerNormTanh<T> layer_norm_tanh_of(
    const Tensor& x, const Tensor& weight, const Tensor& bias, const std::optional<Tensor>& shift, double eps, const Tensor& out) {
  LayerNormTanh<T> body{};
  body.x = rows_of<const T>(x);
  body.weight = one_row_of<const T>(weight);
  body.bias = one_row_of<const T>(bias);
  if (shift) {
    body.shift = rows_of<const T>(*shift);
    body.group = Divisor(x.size(0) / shift->size(0));
  }
  body.eps = static_cast<Accumulate<T>>(eps);
  body.out = rows_of<T>(out);
  return body;
}

inline void check_features(const char* name, const Tensor& tensor, const Tensor& x) {
  FASTRL_CHECK(tensor.dim() == 1 && tensor.size(0) == x.size(1), "layer_norm_tanh: ", name, " must have shape [", x.size(1), "]");
  check_like("layer_norm_tanh", name, tensor, x.scalar_type(), x);
}

inline void check_shift(const Tensor& shift, const Tensor& x) {
  check_like("layer_norm_tanh", "shift", shift, x.scalar_type(), x);
  FASTRL_CHECK(shift.dim() == 2 && shift.size(1) == x.size(1), "layer_norm_tanh: shift must have shape [G, ", x.size(1), "]");
  const int64_t groups = shift.size(0), rows = x.size(0);
  FASTRL_CHECK(groups == 0 ? rows == 0 : rows % groups == 0, "layer_norm_tanh: shift must have a number of rows that divides ", rows);
}

template <class Backend>
Tensor layer_norm_tanh(const Tensor& x, const Tensor& weight, const Tensor& bias, const std::optional<Tensor>& shift, double eps) {
  constexpr const char* kOp = "layer_norm_tanh";
  FASTRL_CHECK(x.dim() == 2, kOp, ": x must have shape [R, D]");
  check_features("weight", weight, x);
  check_features("bias", bias, x);
  if (shift) check_shift(*shift, x);
  check_not_negative(kOp, "eps", eps);
  Tensor out = new_matrix(x, x.size(0), x.size(1));
  for_floating_type(kOp, "x", x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (out.numel() == 0) return;
    const LayerNormTanh<T> body = layer_norm_tanh_of<T>(x, weight, bias, shift, eps, out);
    constexpr double kOperations = 30;  // an element
    Backend::for_each_team(body, x.size(0), kOperations * static_cast<double>(out.numel()), x.get_device_index());
  });
  return out;
}

}  // namespace fastrl
