// Indices that tensors are read at: looked at before anything is read, on the CPU. On a GPU looking would mean waiting for it.
#pragma once

#include "core/cpu_level.h"
#include "core/tensor.h"

namespace fastrl {

// Whether all of `count` values lie in [0, below).
FASTRL_HD bool all_in_range(const int64_t* values, int64_t count, int64_t stride, int64_t below) {
  uint64_t outside = 0;
  if (stride == 1) {
    FASTRL_IVDEP
    for (int64_t i = 0; i < count; ++i) outside |= static_cast<uint64_t>(static_cast<uint64_t>(values[i]) >= static_cast<uint64_t>(below));
  } else {
    for (int64_t i = 0; i < count; ++i)
      outside |= static_cast<uint64_t>(static_cast<uint64_t>(values[i * stride]) >= static_cast<uint64_t>(below));
  }
  return outside == 0;
}

// The same for values that count only where `mask` is set.
FASTRL_HD bool all_in_range_where(
    const int64_t* values, const uint8_t* mask, int64_t count, int64_t stride, int64_t mask_stride, int64_t below) {
  uint64_t outside = 0;
  for (int64_t i = 0; i < count; ++i)
    outside |=
        static_cast<uint64_t>((mask[i * mask_stride] != 0) & (static_cast<uint64_t>(values[i * stride]) >= static_cast<uint64_t>(below)));
  return outside == 0;
}

inline void check_vector(const char* op, const char* name, const Tensor& tensor, int64_t size) {
  FASTRL_CHECK(tensor.dim() == 1 && tensor.size(0) == size, op, ": ", name, " must have shape [", size, "]");
}

// int64 [B] or [B, W] on the device of `like`, values in [0, below) wherever `mask` is set.
inline void check_indices(
    const char* op, const char* name, const Tensor& index, int64_t below, const Tensor& like, const std::optional<Tensor>& mask = {}) {
  check_like(op, name, index, ScalarType::Long, like);
  if (!index.is_cpu() || index.numel() == 0) return;
  const auto* values = static_cast<const int64_t*>(index.data_ptr());
  const bool matrix = index.dim() == 2;
  const int64_t row_stride = matrix ? index.stride(0) : 0, stride = index.stride(index.dim() - 1);
  int64_t rows = matrix ? index.size(0) : 1, columns = matrix ? index.size(1) : index.size(0);
  // what an axis without extent repeats is looked at once
  if (row_stride == 0 && (!mask || mask->stride(0) == 0)) rows = 1;
  if (stride == 0 && (!mask || mask->stride(1) == 0)) columns = 1;
  bool in_range = true;
  cpu::with_best_instructions([&]() FASTRL_INLINE {
    if (!mask && row_stride == columns && stride == 1) {
      in_range = all_in_range(values, rows * columns, 1, below);
      return;
    }
    for (int64_t row = 0; row < rows && in_range; ++row) {
      const int64_t* of_row = values + row * row_stride;
      in_range =
          mask ? all_in_range_where(
                     of_row, static_cast<const uint8_t*>(mask->data_ptr()) + row * mask->stride(0), columns, stride, mask->stride(1), below)
               : all_in_range(of_row, columns, stride, below);
    }
  });
  FASTRL_CHECK(in_range, op, ": ", name, " has values outside [0, ", below, ")");
}

// The windows of a call that reads a bank [E, S, ...].
inline void check_windows(
    const char* op, const Tensor& bank, const Tensor& episode, const Tensor& index, const std::optional<Tensor>& mask) {
  FASTRL_CHECK(index.dim() == 2, op, ": index must have shape [B, W]");
  check_vector(op, "episode", episode, index.size(0));
  if (mask) {
    check_matrix(op, "mask", *mask, index.size(0), index.size(1));
    check_like(op, "mask", *mask, ScalarType::Bool, bank);
  }
  check_indices(op, "episode", episode, bank.size(0), bank);
  check_indices(op, "index", index, bank.size(1), bank, mask);
}

}  // namespace fastrl
