// Indices that tensors are read at. On the CPU they are copied and looked at before anything is read, and the copy is what is used:
// whatever another thread writes into the caller's indices meanwhile, nothing outside a tensor is read. On a GPU looking would mean waiting
// for it.
#pragma once

#include <cstring>

#include "core/cpu_level.h"
#include "core/tensor.h"

namespace fastrl {

// Whether all of `count` values lie in [0, below).
FASTRL_HD bool all_in_range(const int64_t* values, int64_t count, int64_t below) {
  uint64_t outside = 0;
  FASTRL_IVDEP
  for (int64_t i = 0; i < count; ++i) outside |= static_cast<uint64_t>(static_cast<uint64_t>(values[i]) >= static_cast<uint64_t>(below));
  return outside == 0;
}

// The distinct values of int64 [B] or [B, W], copied: one row where all rows are the same memory, one column likewise.
struct IndexCopy {
  int64_t rows, columns;          // of the caller's tensor
  int64_t own_rows, own_columns;  // of the copy
  int64_t* values;

  int64_t* at(int64_t row, int64_t column) const {
    return values + (own_rows == 1 ? 0 : row) * own_columns + (own_columns == 1 ? 0 : column);
  }

  static IndexCopy into(const Tensor& own, const Tensor& index) {
    const bool matrix = index.dim() == 2;
    const int64_t row_stride = matrix ? index.stride(0) : 0, stride = index.stride(index.dim() - 1);
    IndexCopy copy{matrix ? index.size(0) : 1, index.size(index.dim() - 1), 1, 1, static_cast<int64_t*>(own.data_ptr())};
    if (row_stride != 0) copy.own_rows = copy.rows;
    if (stride != 0) copy.own_columns = copy.columns;
    copy.fill(static_cast<const int64_t*>(index.data_ptr()), row_stride, stride);
    return copy;
  }

  // Where `mask` is not set, what is no index becomes 0: it counts for nothing, and may still be read if the mask changes.
  bool only_masked_outside(const Tensor& mask, int64_t below) const {
    const auto* flags = static_cast<const uint8_t*>(mask.data_ptr());
    const auto outside = [&](int64_t value) { return static_cast<uint64_t>(value) >= static_cast<uint64_t>(below); };
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t column = 0; column < columns; ++column)
        if (outside(*at(row, column)) && flags[row * mask.stride(0) + column * mask.stride(1)] != 0) return false;
    for (int64_t i = 0; i < own_rows * own_columns; ++i)
      if (outside(values[i])) values[i] = 0;
    return true;
  }

 private:
  void fill(const int64_t* from, int64_t row_stride, int64_t stride) const {
    if (stride == 1 && (own_rows == 1 || row_stride == own_columns)) {
      std::memcpy(values, from, static_cast<size_t>(own_rows * own_columns) * sizeof(int64_t));
      return;
    }
    for (int64_t row = 0; row < own_rows; ++row)
      for (int64_t column = 0; column < own_columns; ++column)
        values[row * own_columns + column] = from[row * row_stride + column * stride];
  }
};

// An uninitialised tensor of the sizes of `index`, with an element for each that it holds in memory of its own.
inline Tensor new_index(const Tensor& index) {
  const int64_t dim = index.dim(), last = index.size(dim - 1);
  const int64_t sizes[2] = {index.size(0), last};
  const bool repeats = index.stride(dim - 1) == 0;
  const int64_t width = repeats ? 1 : last;
  const int64_t row_stride = dim == 2 && index.stride(0) != 0 ? width : 0;
  const int64_t strides[2] = {dim == 2 ? row_stride : (repeats ? 0 : 1), repeats ? 0 : 1};
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides, aoti_torch_dtype_int64(), aoti_torch_device_type_cpu(), 0, &handle));
  return Tensor(handle);
}

inline void check_vector(const char* op, const char* name, const Tensor& tensor, int64_t size) {
  FASTRL_CHECK(tensor.dim() == 1 && tensor.size(0) == size, op, ": ", name, " must have shape [", size, "]");
}

// What to read at: int64 [B] or [B, W] on the device of `like`, values in [0, below) wherever `mask` is set. On the CPU a copy.
inline Tensor checked_indices(
    const char* op, const char* name, const Tensor& index, int64_t below, const Tensor& like, const std::optional<Tensor>& mask = {}) {
  check_like(op, name, index, ScalarType::Long, like);
  if (!index.is_cpu() || index.numel() == 0) return index;
  Tensor own = new_index(index);
  const IndexCopy copy = IndexCopy::into(own, index);
  bool in_range = true;
  cpu::with_best_instructions([&]() FASTRL_INLINE { in_range = all_in_range(copy.values, copy.own_rows * copy.own_columns, below); });
  if (!in_range && mask) in_range = copy.only_masked_outside(*mask, below);
  FASTRL_CHECK(in_range, op, ": ", name, " has values outside [0, ", below, ")");
  return own;
}

// Which slots of which episodes the windows of a call are: what to read at.
struct WindowIndices {
  Tensor episode, index;
};

// The windows of a call that reads a bank of `episodes` x `slots`.
inline WindowIndices checked_windows(const char* op,
                                     const Tensor& like,
                                     const Tensor& episode,
                                     const Tensor& index,
                                     const std::optional<Tensor>& mask,
                                     int64_t episodes,
                                     int64_t slots) {
  FASTRL_CHECK(index.dim() == 2, op, ": index must have shape [B, W]");
  check_vector(op, "episode", episode, index.size(0));
  if (mask) {
    check_matrix(op, "mask", *mask, index.size(0), index.size(1));
    check_like(op, "mask", *mask, ScalarType::Bool, like);
  }
  return {checked_indices(op, "episode", episode, episodes, like), checked_indices(op, "index", index, slots, like, mask)};
}

}  // namespace fastrl
