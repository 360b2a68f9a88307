// out[b, ..., w, ...] = input[b, ..., index[b, w], ...]: every sample selects for itself along one axis.
#pragma once

#include "core/groups.h"
#include "core/indices.h"
#include "core/rows.h"

namespace fastrl {

// The input seen as [B, P, S, Q]: what lies before and behind the selected axis flattened.
struct SelectedAxis {
  int64_t batch, before, size, behind, selected;  // B, P, S, Q, W

  static SelectedAxis of(const char* op, const Tensor& tensor, int64_t dim, const Tensor& index) {
    FASTRL_CHECK(tensor.dim() >= 2, op, ": the tensor must have at least two axes, [B, ..., S, ...]");
    FASTRL_CHECK(dim >= -tensor.dim() && dim < tensor.dim(), op, ": dim is no axis");
    const int64_t axis = dim < 0 ? dim + tensor.dim() : dim;
    FASTRL_CHECK(axis > 0, op, ": dim must not be the first axis, which index shares");
    FASTRL_CHECK(index.dim() == 2 && index.size(0) == tensor.size(0), op, ": index must have shape [B, W]");
    SelectedAxis shape{tensor.size(0), 1, tensor.size(axis), 1, index.size(1)};
    for (int64_t d = 1; d < axis; ++d) shape.before *= tensor.size(d);
    for (int64_t d = axis + 1; d < tensor.dim(); ++d) shape.behind *= tensor.size(d);
    return shape;
  }
};

// What lies behind the axis in one piece, moved as it is.
struct SelectedRows {
  SelectedAxis shape;
  int64_t rows, row_bytes;
  const char* input;
  int64_t batch_bytes, before_bytes, axis_bytes;  // strides
  const int64_t* index;
  int64_t index_row_stride, index_stride;
  char* out;

  // what divides every address and size of a row
  uint64_t alignment() const {
    return reinterpret_cast<uint64_t>(input) | reinterpret_cast<uint64_t>(out) |
           static_cast<uint64_t>(row_bytes | batch_bytes | before_bytes | axis_bytes);
  }

  FASTRL_HD const char* source(int64_t r) const {
    const int64_t w = r % shape.selected, rest = r / shape.selected;
    const int64_t p = rest % shape.before, b = rest / shape.before;
    return input + b * batch_bytes + p * before_bytes + index[b * index_row_stride + w * index_stride] * axis_bytes;
  }
};

template <class T>
struct SelectedElements {
  using Element = T;
  SelectedRows places;  // in bytes, as SelectedRows has them
  int64_t rows, columns, stride;
  T* out;

  FASTRL_HD const T* at(int64_t r) const { return static_cast<const T*>(static_cast<const void*>(places.source(r))); }
  FASTRL_HD void compute(const T* source, int64_t first, int64_t last, T* to) const {
    for (int64_t i = first; i < last; ++i) to[i - first] = source[i * stride];
  }
};

// The sizes of `tensor` with `size` along `dim`.
inline Tensor new_with_axis(const Tensor& tensor, int64_t dim, int64_t size) {
  std::vector<int64_t> sizes;
  for (int64_t d = 0; d < tensor.dim(); ++d) sizes.push_back(tensor.size(d));
  sizes[static_cast<size_t>(dim < 0 ? dim + tensor.dim() : dim)] = size;
  return new_tensor(tensor, sizes);
}

template <class Backend>
Tensor batched_index_select(const Tensor& input, int64_t dim, const Tensor& index) {
  const SelectedAxis shape = SelectedAxis::of("batched_index_select", input, dim, index);
  Tensor out = new_with_axis(input, dim, shape.selected);  // before values are looked at: what is too large is refused at once
  check_indices("batched_index_select", "index", index, shape.size, input);
  if (out.numel() == 0) return out;
  // a view wherever the strides allow it
  const Tensor flat = torch::stable::reshape(input, {shape.batch, shape.before, shape.size, shape.behind});
  const int64_t bytes = static_cast<int64_t>(input.element_size());
  const int32_t device = input.get_device_index();
  const SelectedRows rows{shape,
                          shape.batch * shape.before * shape.selected,
                          shape.behind * bytes,
                          static_cast<const char*>(flat.data_ptr()),
                          flat.stride(0) * bytes,
                          flat.stride(1) * bytes,
                          flat.stride(2) * bytes,
                          static_cast<const int64_t*>(index.data_ptr()),
                          index.stride(0),
                          index.stride(1),
                          static_cast<char*>(out.data_ptr())};
  if (flat.stride(3) == 1 || shape.behind == 1) {
    Backend::gather_rows(rows, device);
  } else {
    for_width("batched_index_select", bytes, [&](auto tag) {
      using T = typename decltype(tag)::type;
      const SelectedElements<T> op{rows, rows.rows, shape.behind, flat.stride(3), static_cast<T*>(out.data_ptr())};
      Backend::for_each_row(op, device);
    });
  }
  return out;
}

// The gradient of the input, whose axis `dim` has `size`: rows selected several times get their gradients added up in order.
template <class Backend>
Tensor batched_index_select_backward(const Tensor& gradient, int64_t dim, const Tensor& index, int64_t size) {
  constexpr const char* kOp = "batched_index_select_backward";
  const SelectedAxis shape = SelectedAxis::of(kOp, gradient, dim, index);
  FASTRL_CHECK(shape.size == shape.selected, kOp, ": gradient and index disagree about W");
  FASTRL_CHECK(size >= 0, kOp, ": size must not be negative");
  check_indices(kOp, "index", index, size, gradient);
  Tensor out = new_with_axis(gradient, dim, size);
  if (out.numel() == 0) return out;
  const Tensor whole = torch::stable::contiguous(gradient);
  const Groups groups = group_windows<Backend>(std::nullopt, index, std::nullopt, shape.batch, size, false);
  for_floating_type(kOp, "gradient", gradient, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const SumRows<T> op{shape.batch * shape.before * size,
                        shape.behind,
                        shape.before,
                        false,
                        static_cast<const T*>(whole.data_ptr()),
                        shape.selected,
                        size,
                        groups.order_data(),
                        groups.starts_data(),
                        static_cast<T*>(out.data_ptr())};
    Backend::for_each_row(op, gradient.get_device_index());
  });
  return out;
}

}  // namespace fastrl
