// Attention of each sample's query over its window of a memory bank: out[b, h] = sum_w softmax_w(scale query[b, h] . key[e, s_w, h])
// value[e, s_w, h], keys and values read where they lie. For the gradient of it see memory_attention_backward.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <vector>

#include "core/indices.h"
#include "core/team.h"
#include "core/tensor.h"

namespace fastrl {

// Keys or values, [E, S, H, K].
template <class T>
struct Bank {
  T* data;
  int64_t episode_stride, slot_stride, head_stride, inner, size;

  FASTRL_HD Rows<T> slots(int64_t episode, int64_t head, bool far = false) const {
    return {data + episode * episode_stride + head * head_stride, slot_stride, inner, size, far};
  }
};

template <class T>
Bank<T> bank_of(const Tensor& tensor) {
  return {static_cast<T*>(tensor.data_ptr()), tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3), tensor.size(3)};
}

template <class T>
Heads<T> heads_of(const Tensor& tensor) {
  return {static_cast<T*>(tensor.data_ptr()), tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.size(2)};
}

// What a sample sees: slots of an episode.
struct Window {
  const int64_t* index;
  const uint8_t* mask;  // nullptr: all of it
  int64_t stride, mask_stride, size;

  FASTRL_HD int64_t number(int64_t place) const { return index[place * stride]; }
  FASTRL_HD bool present(int64_t place) const { return mask == nullptr || mask[place * mask_stride] != 0; }
  // the numbers as they lie, if all are present and one lies behind the other
  FASTRL_HD const int64_t* all_numbers() const { return mask == nullptr && stride == 1 ? index : nullptr; }
};

struct Windows {
  const int64_t *episode, *index;
  const uint8_t* mask;
  int64_t episode_stride, row_stride, stride, mask_row_stride, mask_stride, size;

  FASTRL_HD int64_t episode_of(int64_t b) const { return episode[b * episode_stride]; }
  FASTRL_HD Window of(int64_t b) const {
    return {index + b * row_stride, mask == nullptr ? nullptr : mask + b * mask_row_stride, stride, mask_stride, size};
  }
};

// What the forward pass leaves for each head of a sample: the largest score, the sum of exp(score - largest), and in half precision the
// result as it was before it was rounded: how far a value lies from it could not be told otherwise where values have an offset in common.
template <class T>
constexpr bool kRounded = !std::is_same_v<T, Accumulate<T>>;

inline int64_t statistics_of(const Tensor& query) {
  const bool half = query.scalar_type() != ScalarType::Float && query.scalar_type() != ScalarType::Double;
  return half ? 2 + query.size(2) : 2;
}

template <class Acc>
Heads<Acc> unrounded_of(const Tensor& statistics) {
  return {static_cast<Acc*>(statistics.data_ptr()) + 2, statistics.stride(0), statistics.stride(1), 1, statistics.size(2) - 2};
}

// The unit is one head of one sample.
template <class T>
struct MemoryAttention {
  using Acc = Accumulate<T>;

  int64_t num_heads;
  Heads<const T> query;
  Bank<const T> key, value;
  Windows windows;
  Acc scale;
  const int64_t* order;  // in which samples are met; nullptr: as they are numbered
  Heads<T> out;
  Acc* statistics;
  int64_t per_head;  // of them
  Heads<Acc> unrounded;

  FASTRL_HD int64_t row_size() const { return query.size; }
  int64_t most_places() const { return windows.size; }

  template <class Team>
  FASTRL_HD void operator()(const Team& team, int64_t unit) const {
    const int64_t b = order == nullptr ? unit / num_heads : order[unit / num_heads], h = unit % num_heads;
    for (int64_t first = 0; first < team.chunks; first += team.panel()) attend(team, b, h, first);
  }

  // Chunks of the result from `first` on. The softmax as it goes along: scores count relative to the largest one so far, and what was added
  // up before a larger one came is scaled down.
  template <class Team>
  FASTRL_HD void attend(const Team& team, int64_t b, int64_t h, int64_t first) const {
    using Vector = typename Team::Vector;
    constexpr Acc kLowest = -std::numeric_limits<Acc>::infinity();
    const Window window = windows.of(b);
    const auto list = team.list(window, b);
    const auto query_row = team.hold(0, query.head(h), b);
    const bool far = order == nullptr;  // no neighbour has read the same
    const auto keys = key.slots(windows.episode_of(b), h, far), values = value.slots(windows.episode_of(b), h, far);
    const int64_t tiles = list.tiles();

    auto result = team.sums(0, first);
    Acc largest = kLowest, sum = 0;
    bool any = false;
    for (int64_t done = 0; done < tiles; done += Team::kTiles) {
      Vector score[Team::kTiles];
      Vector highest = Vector::all(kLowest);
      FASTRL_UNROLL
      for (int t = 0; t < Team::kTiles; ++t) {
        if (done + t >= tiles) break;
        const auto tile = list.tile(done + t);
        any = any || tile.any();
        score[t] = tile.keep(team.dots(query_row, team.take(0, keys, tile), tile) * Vector::all(scale), kLowest);
        highest = highest.larger(score[t]);
      }
      const Acc found = highest.largest();
      const Acc now = found > largest ? found : largest;
      const Acc origin = now > kLowest ? now : Acc(0);  // no finite score yet: whatever is subtracted, their exponentials are 0
      const Acc kept = fast_exp(largest - origin);
      largest = now;
      if (done > 0) result.scale(kept);
      Vector total = Vector::all(0);
      FASTRL_UNROLL
      for (int t = 0; t < Team::kTiles; ++t) {
        if (done + t >= tiles) break;
        const auto tile = list.tile(done + t);
        const Vector weight = tile.keep((score[t] - Vector::all(origin)).exp(), Acc(0));
        total += weight;
        result.add(weight, team.take(0, values, tile), tile);
      }
      sum = sum * kept + total.sum();
    }
    const Acc factor = any ? Acc(1) / sum : Acc(0);
    result.store(out.head(h), b, factor);
    if constexpr (kRounded<T>) result.store(unrounded.head(h), b, factor);
    if (first == 0)
      team.once([&] {
        Acc* mine = statistics + (b * num_heads + h) * per_head;
        mine[0] = largest;
        mine[1] = sum;
      });
  }
};

// The samples by episode and by the first slot of their windows: neighbours read mostly the same slots.
inline std::vector<int64_t> order_by_place(const Windows& windows, int64_t samples) {
  struct Place {
    int64_t episode, slot, sample;
    bool operator<(const Place& other) const { return std::tie(episode, slot, sample) < std::tie(other.episode, other.slot, other.sample); }
  };
  std::vector<Place> places(static_cast<size_t>(samples));
  for (int64_t b = 0; b < samples; ++b) {
    const Window window = windows.of(b);
    int64_t first = 0;
    while (first < window.size && !window.present(first)) ++first;
    places[static_cast<size_t>(b)] = {windows.episode_of(b), first < window.size ? window.number(first) : 0, b};
  }
  std::sort(places.begin(), places.end());
  std::vector<int64_t> order(places.size());
  for (size_t i = 0; i < places.size(); ++i) order[i] = places[i].sample;
  return order;
}

inline Windows windows_of(const WindowIndices& indices, const std::optional<Tensor>& mask) {
  const auto& [episode, index] = indices;
  return {static_cast<const int64_t*>(episode.data_ptr()),
          static_cast<const int64_t*>(index.data_ptr()),
          mask ? static_cast<const uint8_t*>(mask->data_ptr()) : nullptr,
          episode.stride(0),
          index.stride(0),
          index.stride(1),
          mask ? mask->stride(0) : 0,
          mask ? mask->stride(1) : 0,
          index.size(1)};
}

// One call, checked: what forward and backward have in common.
struct AttentionCall {
  AttentionCall(const char* op,
                const Tensor& query,
                const Tensor& key,
                const Tensor& value,
                const Tensor& episode,
                const Tensor& index,
                const std::optional<Tensor>& mask,
                std::optional<double> asked_scale)
      : query(query), key(key), value(value), mask(mask) {
    FASTRL_CHECK(query.dim() == 3, op, ": query must have shape [B, H, K]");
    samples = query.size(0), heads = query.size(1), size = query.size(2);
    check_bank(op, "key", key);
    check_bank(op, "value", value);
    FASTRL_CHECK(value.size(0) == key.size(0) && value.size(1) == key.size(1), op, ": value must have the shape of key");
    FASTRL_CHECK(index.dim() == 2 && index.size(0) == samples, op, ": index must have shape [B, W]");
    indices = checked_windows(op, key, episode, index, mask, key.size(0), key.size(1));
    scale = asked_scale ? *asked_scale : 1 / std::sqrt(static_cast<double>(std::max<int64_t>(size, 1)));
    const bool wide = query.scalar_type() == ScalarType::Double;
    const double most = wide ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();  // of what accumulates
    FASTRL_CHECK(std::abs(scale) <= most, op, ": scale must be finite in the dtype that accumulates");
  }

  template <class Backend>
  std::vector<int64_t> order(const Windows& windows) const {
    return Backend::kInOrder && samples > key.size(0) ? order_by_place(windows, samples) : std::vector<int64_t>();
  }

  // multiplications and additions of `products` products of every row with each row of its window
  double operations(int products) const {
    return 2.0 * products * static_cast<double>(query.numel()) * static_cast<double>(indices.index.size(1));
  }

  const Tensor &query, &key, &value;
  const std::optional<Tensor>& mask;
  WindowIndices indices;
  int64_t samples, heads, size;
  double scale;

 private:
  void check_bank(const char* op, const char* name, const Tensor& bank) const {
    FASTRL_CHECK(bank.dim() == 4 && bank.size(2) == heads && bank.size(3) == size,
                 op,
                 ": ",
                 name,
                 " must have shape [E, S, ",
                 heads,
                 ", ",
                 size,
                 "]");
    check_like(op, name, bank, query.scalar_type(), query);
  }
};

template <class Backend>
std::tuple<Tensor, Tensor> memory_attention(const Tensor& query,
                                            const Tensor& key,
                                            const Tensor& value,
                                            const Tensor& episode,
                                            const Tensor& index,
                                            const std::optional<Tensor>& mask,
                                            std::optional<double> scale) {
  const AttentionCall call("memory_attention", query, key, value, episode, index, mask, scale);
  Tensor out = new_tensor(query, {call.samples, call.heads, call.size});
  Tensor statistics = new_accumulator(query, {call.samples, call.heads, statistics_of(query)});
  for_floating_type("memory_attention", "query", query, [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Acc = Accumulate<T>;
    if (out.numel() == 0) return;
    const Windows windows = windows_of(call.indices, mask);
    const std::vector<int64_t> order = call.template order<Backend>(windows);
    const MemoryAttention<T> body{call.heads,
                                  heads_of<const T>(query),
                                  bank_of<const T>(key),
                                  bank_of<const T>(value),
                                  windows,
                                  static_cast<Acc>(call.scale),
                                  order.empty() ? nullptr : order.data(),
                                  heads_of<T>(out),
                                  static_cast<Acc*>(statistics.data_ptr()),
                                  statistics.size(2),
                                  unrounded_of<Acc>(statistics)};
    Backend::for_each_team(body, call.samples * call.heads, call.operations(2), query.get_device_index());
  });
  return {out, statistics};
}

}  // namespace fastrl
