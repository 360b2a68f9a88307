// Rows grouped by where they go: what a gradient that adds up in a fixed order walks through.
#pragma once

#include <algorithm>

#include "core/divisor.h"
#include "core/rows.h"
#include "core/tensor.h"

namespace fastrl {

// `order` [M] int64 lists the numbers 0 ... M-1 by destination, in their own order within one; destination d has those at
// [starts[d], starts[d + 1]). Numbers whose destination is `destinations` itself are left out: they come last, behind starts[destinations].
struct Groups {
  Tensor order, starts;

  const int64_t* order_data() const { return static_cast<const int64_t*>(order.data_ptr()); }
  const int64_t* starts_data() const { return static_cast<const int64_t*>(starts.data_ptr()); }
};

// Where the W slots of B samples lie in a bank of `slots` slots a sample's episode; what is masked has no place.
struct SlotOfWindow {
  Divisor window;
  int64_t slots, nowhere;
  const int64_t* episode;  // nullptr: the sample's own number
  const int64_t* index;
  const uint8_t* mask;  // nullptr: all count
  int64_t episode_stride, index_row_stride, index_stride, mask_row_stride, mask_stride;

  // The slots of sample b in a table of rows; those of episode e begin at `memory` + e `episode_bytes`.
  FASTRL_HD RowList list(int64_t b, const char* memory, int64_t episode_bytes, int64_t slot_bytes) const {
    return {memory + (episode == nullptr ? b : episode[b * episode_stride]) * episode_bytes,
            slot_bytes,
            index + b * index_row_stride,
            index_stride,
            mask == nullptr ? nullptr : mask + b * mask_row_stride,
            mask_stride};
  }

  FASTRL_HD int64_t operator()(int64_t i) const {
    const auto [b, w] = window.split(i);
    if (mask != nullptr && mask[b * mask_row_stride + w * mask_stride] == 0) return nowhere;
    const int64_t slot = index[b * index_row_stride + w * index_stride];
    if (slots == 0) return slot;  // slots of all episodes together
    return (episode == nullptr ? b : episode[b * episode_stride]) * slots + slot;
  }
};

struct WriteSlots {
  SlotOfWindow slot;
  int64_t* out;
  FASTRL_HD void operator()(int64_t i) const { out[i] = slot(i); }
};

inline SlotOfWindow slot_of_window(const std::optional<Tensor>& episode, const Tensor& index, const std::optional<Tensor>& mask) {
  const auto of = [](const Tensor& tensor) { return static_cast<const int64_t*>(tensor.data_ptr()); };
  return {Divisor(std::max<int64_t>(index.size(1), 1)),
          0,
          0,
          episode ? of(*episode) : nullptr,
          of(index),
          mask ? static_cast<const uint8_t*>(mask->data_ptr()) : nullptr,
          episode ? episode->stride(0) : 0,
          index.stride(0),
          index.stride(1),
          mask ? mask->stride(0) : 0,
          mask ? mask->stride(1) : 0};
}

// The B W window slots of a call grouped by slot: of `episodes` x `slots`, or with slots_together of the slots of all episodes.
template <class Backend>
Groups group_windows(const std::optional<Tensor>& episode,
                     const Tensor& index,
                     const std::optional<Tensor>& mask,
                     int64_t episodes,
                     int64_t slots,
                     bool slots_together) {
  SlotOfWindow slot = slot_of_window(episode, index, mask);
  slot.slots = slots_together ? 0 : slots;
  slot.nowhere = slots_together ? slots : episodes * slots;
  const int64_t count = index.size(0) * index.size(1);
  Tensor keys = new_tensor(index, {count});
  const int32_t device = index.get_device_index();
  Backend::for_each(WriteSlots{slot, static_cast<int64_t*>(keys.data_ptr())}, count, device);
  return Backend::group(keys, slot.nowhere, device);
}

// The gradient of a gather: each destination gets the sum of the rows that came from it, in order, in float32 for half precision.
// A row of the gradient is cut into `parts` of `columns`, each with a destination row of its own, or added to the same one if `together`.
template <class T>
struct SumRows {
  using Element = T;
  using Acc = Accumulate<T>;
  int64_t rows, columns;  // rows: destinations x parts, or destinations if together
  Divisor parts;
  bool together;
  const T* gradient;  // row k, part p at (k / inner * parts + p) * inner + k % inner, of `columns` each, contiguous
  Divisor inner;      // rows that lie between one part and the next; 1: the parts of a row lie side by side
  Divisor destinations_inner;
  const int64_t *order, *starts;
  T* out;

  struct At {
    int64_t begin, end;  // of the numbers that belong here
    int64_t first_part, last_part;
  };

  FASTRL_HD At at(int64_t r) const {
    if (together) return {starts[r], starts[r + 1], 0, parts.value()};
    // destination rows lie as the rows of the gradient do: (outer, part, inner)
    const auto [rest, place] = destinations_inner.split(r);
    const auto [outer, part] = parts.split(rest);
    const int64_t destination = outer * destinations_inner.value() + place;
    return {starts[destination], starts[destination + 1], part, part + 1};
  }

  FASTRL_HD const T* source(int64_t k, int64_t part) const {
    const auto [outer, place] = inner.split(k);
    return gradient + ((outer * parts.value() + part) * inner.value() + place) * columns;
  }

  FASTRL_HD const T* begin(const At& at) const { return at.begin < at.end ? source(order[at.begin], at.first_part) : nullptr; }

  FASTRL_HD void compute(const At& at, int64_t first, int64_t last, T* to) const {
#if defined(__CUDA_ARCH__)
    constexpr int64_t kColumns = 1;
#else
    constexpr int64_t kColumns = 2048;  // in the first-level cache
#endif
    for (int64_t begin = first; begin < last; begin += kColumns) {
      const int64_t width = last - begin < kColumns ? last - begin : kColumns;
      Acc sum[kColumns];
      for (int64_t i = 0; i < width; ++i) sum[i] = Acc(0);
      for (int64_t j = at.begin; j < at.end; ++j) {
        for (int64_t part = at.first_part; part < at.last_part; ++part) {
          // on a CPU the next row is asked for while this one is added
          const T* next = part + 1 < at.last_part ? source(order[j], part + 1)
                          : j + 1 < at.end        ? source(order[j + 1], at.first_part)
                                                  : nullptr;
          if (next != nullptr) prefetch_lines(next + begin, width);
          const T* row = source(order[j], part) + begin;
          for (int64_t i = 0; i < width; ++i) sum[i] += Acc(row[i]);
        }
      }
      for (int64_t i = 0; i < width; ++i) to[begin - first + i] = T(sum[i]);
    }
  }
};

}  // namespace fastrl
