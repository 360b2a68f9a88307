// out[b, w, l, :] = memory[episode[b], index[b, w], l, :] + position[index[b, w], :], 0 where mask[b, w] is not set.
#pragma once

#include "core/groups.h"
#include "core/indices.h"
#include "core/rows.h"

namespace fastrl {

// A bank [E, S, L, D] of any strides, in elements.
struct BankShape {
  int64_t slots, layers, dim;
  int64_t episode_stride, slot_stride, layer_stride, dim_stride;

  static BankShape of(const Tensor& memory) {
    return {memory.size(1), memory.size(2), memory.size(3), memory.stride(0), memory.stride(1), memory.stride(2), memory.stride(3)};
  }
  // a slot's layers and features lie in one piece
  bool slots_in_one_piece() const { return (dim_stride == 1 || dim == 1) && (layer_stride == dim || layers == 1); }
};

// Whole slots, moved as they are.
struct WindowSlots {
  SlotOfWindow slot;
  Divisor length;
  int64_t rows, row_bytes;
  const char* memory;
  int64_t episode_bytes, slot_bytes;  // strides
  char* out;

  // what divides every address and size of a row
  uint64_t alignment() const {
    return reinterpret_cast<uint64_t>(memory) | reinterpret_cast<uint64_t>(out) |
           static_cast<uint64_t>(row_bytes | episode_bytes | slot_bytes);
  }

  FASTRL_HD RowList list(int64_t b) const { return slot.list(b, memory, episode_bytes, slot_bytes); }
};

// Element by element: any strides, and a position to add. A row is a slot that lies in one piece, or one layer of a slot.
template <class T>
struct WindowElements {
  using Element = T;
  SlotOfWindow slot;
  int64_t rows, columns;
  Divisor pieces, dim;  // rows that make up a slot, features of a layer
  const T* memory;
  int64_t episode_stride, slot_stride, piece_stride, stride;
  const T* position;  // nullptr: none
  int64_t position_slot_stride, position_stride;
  T* out;

  struct At {
    const T *memory, *position;
  };

  FASTRL_HD At at(int64_t r) const {
    const auto [k, piece] = pieces.split(r);
    const auto [b, w] = slot.window.split(k);
    if (slot.mask != nullptr && slot.mask[b * slot.mask_row_stride + w * slot.mask_stride] == 0) return {nullptr, nullptr};
    const int64_t s = slot.index[b * slot.index_row_stride + w * slot.index_stride];
    const int64_t e = slot.episode[b * slot.episode_stride];
    return {memory + e * episode_stride + s * slot_stride + piece * piece_stride,
            position == nullptr ? nullptr : position + s * position_slot_stride};
  }

  FASTRL_HD const T* begin(const At& at) const { return stride == 1 ? at.memory : nullptr; }

  FASTRL_HD void compute(const At& at, int64_t first, int64_t last, T* to) const {
    if (at.memory == nullptr) {
      for (int64_t i = first; i < last; ++i) to[i - first] = T{};
    } else if (at.position == nullptr) {
      for (int64_t i = first; i < last; ++i) to[i - first] = at.memory[i * stride];
    } else {
      for (int64_t i = first; i < last;) {  // layer by layer: all have the same position
        const int64_t d = dim.split(i).remainder;
        const int64_t count = last - i < dim.value() - d ? last - i : dim.value() - d;
        add(at.memory + i * stride, at.position + d * position_stride, count, to + (i - first));
        i += count;
      }
    }
  }

  FASTRL_HD void add(const T* values, const T* positions, int64_t count, T* to) const {
    if (stride == 1 && position_stride == 1) {
      FASTRL_IVDEP
      for (int64_t i = 0; i < count; ++i) to[i] = sum(values[i], positions[i]);
    } else {
      for (int64_t i = 0; i < count; ++i) to[i] = sum(values[i * stride], positions[i * position_stride]);
    }
  }

  FASTRL_HD static T sum(T memory, T position) {
    if constexpr (std::is_integral_v<T> || !std::is_constructible_v<T, float>)
      return memory;  // what is moved by its width alone has no position
    else
      return T(Accumulate<T>(memory) + Accumulate<T>(position));
  }
};

inline WindowIndices checked_gather(const Tensor& memory,
                                    const Tensor& episode,
                                    const Tensor& index,
                                    const std::optional<Tensor>& mask,
                                    const std::optional<Tensor>& position) {
  constexpr const char* kOp = "memory_window_gather";
  FASTRL_CHECK(memory.dim() == 4, kOp, ": memory must have shape [E, S, L, D]");
  if (position) {
    check_matrix(kOp, "position", *position, memory.size(1), memory.size(3));
    check_like(kOp, "position", *position, memory.scalar_type(), memory);
    for_floating_type(kOp, "memory", memory, [](auto) {});
  }
  return checked_windows(kOp, memory, episode, index, mask, memory.size(0), memory.size(1));
}

// Arguments have been checked, `out` is [B, W, L, D] and contiguous.
template <class Backend>
void gather_windows(const Tensor& memory,
                    const WindowIndices& windows,
                    const std::optional<Tensor>& mask,
                    const std::optional<Tensor>& position,
                    const Tensor& out) {
  if (out.numel() == 0) return;
  const BankShape bank = BankShape::of(memory);
  const SlotOfWindow slot = slot_of_window(windows.episode, windows.index, mask);
  const int64_t count = windows.index.numel(), bytes = static_cast<int64_t>(memory.element_size());
  const int32_t device = memory.get_device_index();
  if (!position && bank.slots_in_one_piece()) {
    const WindowSlots op{slot,
                         slot.window,
                         count,
                         bank.layers * bank.dim * bytes,
                         static_cast<const char*>(memory.data_ptr()),
                         bank.episode_stride * bytes,
                         bank.slot_stride * bytes,
                         static_cast<char*>(out.data_ptr())};
    return Backend::gather_rows(op, device);
  }
  const auto run = [&](auto tag) {
    using T = typename decltype(tag)::type;
    const bool whole = bank.slots_in_one_piece();
    const int64_t pieces = whole ? 1 : bank.layers;
    const WindowElements<T> op{slot,
                               count * pieces,
                               whole ? bank.layers * bank.dim : bank.dim,
                               Divisor(pieces),
                               Divisor(bank.dim),
                               static_cast<const T*>(memory.data_ptr()),
                               bank.episode_stride,
                               bank.slot_stride,
                               bank.layer_stride,
                               whole ? 1 : bank.dim_stride,
                               position ? static_cast<const T*>(position->data_ptr()) : nullptr,
                               position ? position->stride(0) : 0,
                               position ? position->stride(1) : 0,
                               static_cast<T*>(out.data_ptr())};
    Backend::for_each_row(op, device);
  };
  if (position)
    for_floating_type("memory_window_gather", "memory", memory, run);
  else
    for_width("memory_window_gather", bytes, run);
}

template <class Backend>
Tensor memory_window_gather(const Tensor& memory,
                            const Tensor& episode,
                            const Tensor& index,
                            const std::optional<Tensor>& mask,
                            const std::optional<Tensor>& position) {
  FASTRL_CHECK(memory.dim() == 4 && index.dim() == 2, "memory_window_gather: memory must have shape [E, S, L, D], index [B, W]");
  // before values are looked at: what is too large is refused at once
  Tensor out = new_tensor(memory, {index.size(0), index.size(1), memory.size(2), memory.size(3)});
  gather_windows<Backend>(memory, checked_gather(memory, episode, index, mask, position), mask, position, out);
  return out;
}

template <class Backend>
void memory_window_gather_out(const Tensor& memory,
                              const Tensor& episode,
                              const Tensor& index,
                              const std::optional<Tensor>& mask,
                              const std::optional<Tensor>& position,
                              const Tensor& out) {
  const WindowIndices windows = checked_gather(memory, episode, index, mask, position);
  check_like("memory_window_gather", "out", out, memory.scalar_type(), memory);
  FASTRL_CHECK(out.dim() == 4 && out.size(0) == index.size(0) && out.size(1) == index.size(1) && out.size(2) == memory.size(2) &&
                   out.size(3) == memory.size(3),
               "memory_window_gather: out must have shape [B, W, L, D]");
  FASTRL_CHECK(out.is_contiguous(), "memory_window_gather: out must be contiguous");
  for (const Tensor* input : {&memory, &episode, &index, mask ? &*mask : nullptr, position ? &*position : nullptr})
    FASTRL_CHECK(input == nullptr || !overlap(*input, out), "memory_window_gather: out must not share memory with the inputs");
  gather_windows<Backend>(memory, windows, mask, position, out);
}

// What of the windows' gradient belongs to the memory [E, S, L, D] and to the position [S, D]; a tensor without elements for what is not
// wanted.
template <class Backend>
std::tuple<Tensor, Tensor> memory_window_gather_backward(const Tensor& gradient,
                                                         const Tensor& episode,
                                                         const Tensor& index,
                                                         const std::optional<Tensor>& mask,
                                                         int64_t episodes,
                                                         int64_t slots,
                                                         bool to_memory,
                                                         bool to_position) {
  constexpr const char* kOp = "memory_window_gather_backward";
  FASTRL_CHECK(gradient.dim() == 4, kOp, ": gradient must have shape [B, W, L, D]");
  FASTRL_CHECK(episodes >= 0 && slots >= 0, kOp, ": sizes must not be negative");
  const int64_t layers = gradient.size(2), dim = gradient.size(3);
  FASTRL_CHECK(
      index.dim() == 2 && index.size(0) == gradient.size(0) && index.size(1) == gradient.size(1), kOp, ": index must have shape [B, W]");
  const WindowIndices windows = checked_windows(kOp, gradient, episode, index, mask, episodes, slots);
  Tensor memory = to_memory ? new_tensor(gradient, {episodes, slots, layers, dim}) : new_tensor(gradient, {0, slots, layers, dim});
  Tensor position = to_position ? new_tensor(gradient, {slots, dim}) : new_tensor(gradient, {0, dim});
  const Tensor whole = torch::stable::contiguous(gradient);
  const auto sum = [&](Tensor& target, int64_t rows, int64_t columns, int64_t parts) {
    if (target.numel() == 0) return;
    const bool together = &target == &position;  // slots of all episodes, and the layers of each
    const Groups groups = group_windows<Backend>(windows.episode, windows.index, mask, episodes, slots, together);
    for_floating_type(kOp, "gradient", gradient, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const SumRows<T> op{rows,
                          columns,
                          Divisor(parts),
                          together,
                          static_cast<const T*>(whole.data_ptr()),
                          Divisor(1),
                          Divisor(1),
                          groups.order_data(),
                          groups.starts_data(),
                          static_cast<T*>(target.data_ptr())};
      Backend::for_each_row(op, gradient.get_device_index());
    });
  };
  sum(memory, episodes * slots, layers * dim, 1);
  sum(position, slots, dim, layers);
  return {memory, position};
}

}  // namespace fastrl
