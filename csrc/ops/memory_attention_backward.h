// The gradient of memory_attention. With p_w the weights, d_w = gradient . value[s_w] and delta = sum_w p_w d_w = gradient . out:
//     to the score w             p_w (d_w - delta)
//     to query                   scale sum_w p_w (d_w - delta) key[s_w]
//     to key[s], value[s]        scale sum p_w (d_w - delta) query[b], sum p_w gradient[b], over all windows b that see slot s, in order
// Weights are computed anew, from the statistics that the forward pass has left, and delta from the result before it was rounded; nothing
// of the size of all windows is ever built but the list of who sees which slot.
#pragma once

#include "core/groups.h"
#include "ops/memory_attention.h"

namespace fastrl {

// What a head of a sample is remembered by: the largest score, 1 / sum of exp(score - largest), and delta. [B, H, 3].
constexpr int64_t kRecord = 3;

template <class T>
struct WriteRecords {
  using Acc = Accumulate<T>;

  int64_t num_heads;
  Heads<const T> gradient;
  Heads<const std::conditional_t<kRounded<T>, Acc, T>> out;
  const Acc* statistics;
  int64_t per_head;  // of them
  Acc* records;

  FASTRL_HD int64_t row_size() const { return out.size; }
  int64_t most_places() const { return 0; }

  template <class Team>
  FASTRL_HD void operator()(const Team& team, int64_t unit) const {
    using Vector = typename Team::Vector;
    const int64_t b = unit / num_heads, h = unit % num_heads;
    const auto gradient_row = team.hold(0, gradient.head(h), b);
    const auto out_row = team.hold(1, out.head(h), b);
    Vector sum = Vector::all(0);
    for (int64_t c = 0; c < team.chunks; ++c) sum += gradient_row.chunk(c) * out_row.chunk(c);
    const Acc delta = sum.sum();
    team.once([&] {
      records[unit * kRecord] = statistics[unit * per_head];
      records[unit * kRecord + 1] = Acc(1) / statistics[unit * per_head + 1];
      records[unit * kRecord + 2] = delta;
    });
  }
};

// The weights of a tile, and the gradients of its scores, from the products of keys with queries and of values with gradients.
template <class Vector>
struct TileWeights {
  Vector weight, to_score;

  FASTRL_HD static TileWeights from(
      const Vector& score, const Vector& slope, const Vector& largest, const Vector& inverse_sum, const Vector& delta) {
    const Vector weight = (score - largest).exp() * inverse_sum;
    return {weight, weight * (slope - delta)};
  }
};

// The unit is one head of one sample.
template <class T>
struct ToQuery {
  using Acc = Accumulate<T>;

  int64_t num_heads;
  Heads<const T> query, gradient;
  Bank<const T> key, value;
  Windows windows;
  Acc scale;
  const int64_t* order;
  const Acc* records;
  Heads<T> to_query;

  FASTRL_HD int64_t row_size() const { return query.size; }
  int64_t most_places() const { return windows.size; }

  template <class Team>
  FASTRL_HD void operator()(const Team& team, int64_t unit) const {
    using Vector = typename Team::Vector;
    const int64_t b = order == nullptr ? unit / num_heads : order[unit / num_heads], h = unit % num_heads;
    const Window window = windows.of(b);
    const auto list = team.list(window, b);
    const auto query_row = team.hold(0, query.head(h), b), gradient_row = team.hold(1, gradient.head(h), b);
    const auto keys = key.slots(windows.episode_of(b), h), values = value.slots(windows.episode_of(b), h);
    const Acc* record = records + (b * num_heads + h) * kRecord;
    for (int64_t first = 0; first < team.chunks; first += team.panel()) {
      auto result = team.sums(0, first);
      for (int64_t t = 0; t < list.tiles(); ++t) {
        const auto tile = list.tile(t);
        const auto key_rows = team.take(0, keys, tile);
        const auto value_rows = team.take(1, values, tile);
        const auto found = TileWeights<Vector>::from(team.dots(query_row, key_rows, tile) * Vector::all(scale),
                                                     team.dots(gradient_row, value_rows, tile),
                                                     Vector::all(record[0]),
                                                     Vector::all(record[1]),
                                                     Vector::all(record[2]));
        result.add(found.to_score, key_rows, tile);
      }
      result.store(to_query.head(h), b, scale);
    }
  }
};

// The samples that see a slot.
struct Viewers {
  const int64_t* samples;
  int64_t size;

  FASTRL_HD int64_t number(int64_t place) const { return samples[place]; }
  FASTRL_HD static constexpr bool present(int64_t) { return true; }
  FASTRL_HD const int64_t* all_numbers() const { return samples; }
};

// The unit is one head of one slot.
template <class T>
struct ToBank {
  using Acc = Accumulate<T>;

  int64_t num_heads, num_slots;
  Heads<const T> query, gradient;
  Bank<const T> key, value;
  const int64_t *samples, *starts;  // the samples that see slot s of all episodes' slots: samples[starts[s] ... starts[s + 1]]
  Acc scale;
  const Acc* records;
  Bank<T> to_key, to_value;

  FASTRL_HD int64_t row_size() const { return query.size; }
  int64_t most_places() const { return 0; }

  template <class Team>
  FASTRL_HD void operator()(const Team& team, int64_t unit) const {
    using Vector = typename Team::Vector;
    const int64_t place = unit / num_heads, h = unit % num_heads, episode = place / num_slots, slot = place % num_slots;
    const Viewers viewers{samples + starts[place], starts[place + 1] - starts[place]};
    const auto list = team.list(viewers, place);
    const auto key_row = team.hold(0, key.slots(episode, h), slot), value_row = team.hold(1, value.slots(episode, h), slot);
    const auto queries = query.head(h), gradients = gradient.head(h);
    const Acc* record = records + h * kRecord;
    const int64_t stride = num_heads * kRecord;
    for (int64_t first = 0; first < team.chunks; first += team.panel()) {
      auto result = team.sums(0, first), value_result = team.sums(1, first);
      for (int64_t t = 0; t < list.tiles(); ++t) {
        const auto tile = list.tile(t);
        const auto query_rows = team.take(0, queries, tile);
        const auto gradient_rows = team.take(1, gradients, tile);
        const auto found = TileWeights<Vector>::from(team.dots(key_row, query_rows, tile) * Vector::all(scale),
                                                     team.dots(value_row, gradient_rows, tile),
                                                     tile.gather(record, stride),
                                                     tile.gather(record + 1, stride),
                                                     tile.gather(record + 2, stride));
        result.add(found.to_score, query_rows, tile);
        value_result.add(found.weight, gradient_rows, tile);
      }
      result.store(to_key.slots(episode, h), slot, scale);
      value_result.store(to_value.slots(episode, h), slot, Acc(1));
    }
  }
};

// Window places, numbered b W + w, become samples.
struct SamplesOfPlaces {
  int64_t* places;
  int64_t window;

  FASTRL_HD void operator()(int64_t i) const { places[i] /= window; }
};

inline void check_saved(const char* op, const AttentionCall& call, const Tensor& gradient, const Tensor& out, const Tensor& statistics) {
  const auto check_like_query = [&](const char* name, const Tensor& tensor) {
    FASTRL_CHECK(tensor.dim() == 3 && tensor.size(0) == call.samples && tensor.size(1) == call.heads && tensor.size(2) == call.size,
                 op,
                 ": ",
                 name,
                 " must have the shape of query");
    check_like(op, name, tensor, call.query.scalar_type(), call.query);
  };
  check_like_query("gradient", gradient);
  check_like_query("out", out);
  const bool wide = call.query.scalar_type() == ScalarType::Double;
  check_like(op, "statistics", statistics, wide ? ScalarType::Double : ScalarType::Float, call.query);
  FASTRL_CHECK(statistics.dim() == 3 && statistics.size(0) == call.samples && statistics.size(1) == call.heads &&
                   statistics.size(2) == statistics_of(call.query) && statistics.is_contiguous(),
               op,
               ": statistics must have shape [B, H, ",
               statistics_of(call.query),
               "], contiguous");
}

template <class Backend, class T>
Tensor records_of(const AttentionCall& call, const Tensor& gradient, const Tensor& out, const Tensor& statistics) {
  using Acc = Accumulate<T>;
  Tensor records = new_accumulator(gradient, {call.samples, call.heads, kRecord});
  WriteRecords<T> body{call.heads,
                       heads_of<const T>(gradient),
                       {},
                       static_cast<const Acc*>(statistics.data_ptr()),
                       statistics.size(2),
                       static_cast<Acc*>(records.data_ptr())};
  if constexpr (kRounded<T>)
    body.out = unrounded_of<const Acc>(statistics);
  else
    body.out = heads_of<const T>(out);
  const double operations = 2.0 * static_cast<double>(call.samples * call.heads * call.size);
  Backend::for_each_team(body, call.samples * call.heads, operations, gradient.get_device_index());
  return records;
}

template <class Backend>
Tensor memory_attention_to_query(const Tensor& gradient,
                                 const Tensor& query,
                                 const Tensor& key,
                                 const Tensor& value,
                                 const Tensor& episode,
                                 const Tensor& index,
                                 const std::optional<Tensor>& mask,
                                 std::optional<double> scale,
                                 const Tensor& out,
                                 const Tensor& statistics) {
  const char* op = "memory_attention_to_query";
  const AttentionCall call(op, query, key, value, episode, index, mask, scale);
  check_saved(op, call, gradient, out, statistics);
  Tensor to_query = new_tensor(query, {call.samples, call.heads, call.size});
  for_floating_type(op, "query", query, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (to_query.numel() == 0) return;
    const Tensor records = records_of<Backend, T>(call, gradient, out, statistics);
    const Windows windows = windows_of(call.indices, mask);
    const std::vector<int64_t> order = call.template order<Backend>(windows);
    const ToQuery<T> body{call.heads,
                          heads_of<const T>(query),
                          heads_of<const T>(gradient),
                          bank_of<const T>(key),
                          bank_of<const T>(value),
                          windows,
                          static_cast<Acc>(call.scale),
                          order.empty() ? nullptr : order.data(),
                          static_cast<const Acc*>(records.data_ptr()),
                          heads_of<T>(to_query)};
    Backend::for_each_team(body, call.samples * call.heads, call.operations(3), query.get_device_index());
  });
  return to_query;
}

template <class Backend>
std::tuple<Tensor, Tensor> memory_attention_to_bank(const Tensor& gradient,
                                                    const Tensor& query,
                                                    const Tensor& key,
                                                    const Tensor& value,
                                                    const Tensor& episode,
                                                    const Tensor& index,
                                                    const std::optional<Tensor>& mask,
                                                    std::optional<double> scale,
                                                    const Tensor& out,
                                                    const Tensor& statistics) {
  const char* op = "memory_attention_to_bank";
  const AttentionCall call(op, query, key, value, episode, index, mask, scale);
  check_saved(op, call, gradient, out, statistics);
  const int64_t episodes = key.size(0), slots = key.size(1);
  Tensor to_key = new_tensor(key, {episodes, slots, call.heads, call.size});
  Tensor to_value = new_tensor(key, {episodes, slots, call.heads, call.size});
  for_floating_type(op, "query", query, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (to_key.numel() == 0) return;
    const int32_t device = query.get_device_index();
    const Tensor records = records_of<Backend, T>(call, gradient, out, statistics);
    const Groups groups = group_windows<Backend>(call.indices.episode, call.indices.index, mask, episodes, slots, false);
    auto* samples = static_cast<int64_t*>(groups.order.data_ptr());
    Backend::for_each(SamplesOfPlaces{samples, index.size(1)}, index.numel(), device);
    const ToBank<T> body{call.heads,
                         slots,
                         heads_of<const T>(query),
                         heads_of<const T>(gradient),
                         bank_of<const T>(key),
                         bank_of<const T>(value),
                         samples,
                         groups.starts_data(),
                         static_cast<Acc>(call.scale),
                         static_cast<const Acc*>(records.data_ptr()),
                         bank_of<T>(to_key),
                         bank_of<T>(to_value)};
    Backend::for_each_team(body, episodes * slots * call.heads, call.operations(4), device);
  });
  return {to_key, to_value};
}

}  // namespace fastrl
