// out[b, ..., w, ...] = input[b, ..., index[b, w], ...]: every sample selects for itself along one axis.
#pragma once

#include <vector>

#include "core/groups.h"
#include "core/indices.h"
#include "core/rows.h"

namespace fastrl {

constexpr int64_t kShortRow = 256;  // bytes

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

// What lies behind the axis in one piece, moved as it is. A list is what one index row selects from one place before the axis.
struct SelectedRows {
  Divisor length, before;
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

  FASTRL_HD RowList list(int64_t i) const {
    const auto [b, p] = before.split(i);
    return {input + b * batch_bytes + p * before_bytes, axis_bytes, index + b * index_row_stride, index_stride, nullptr, 0};
  }
};

template <class T>
struct SelectedElements {
  using Element = T;
  SelectedRows places;  // in bytes, as SelectedRows has them
  int64_t rows, columns, stride;
  T* out;

  FASTRL_HD const T* at(int64_t r) const {
    const auto [list, w] = places.length.split(r);
    return static_cast<const T*>(static_cast<const void*>(places.list(list).place(w)));
  }
  FASTRL_HD const T* begin(const T*) const { return nullptr; }
  FASTRL_HD void compute(const T* source, int64_t first, int64_t last, T* to) const {
    for (int64_t i = first; i < last; ++i) to[i - first] = source[i * stride];
  }
};

// The gradient of short rows, list by list as they come: what is added to stays in cache, and grouping would take longer than adding.
template <class T>
struct AddLists {
  using Acc = Accumulate<T>;
  Divisor before;
  int64_t selected, size, behind;
  const T* gradient;
  const int64_t* index;
  int64_t index_row_stride, index_stride;
  T* out;

  void operator()(int64_t first, int64_t last) const {
    if constexpr (std::is_same_v<T, Acc>) {
      for (int64_t i = first; i < last; ++i) add(i, out + i * size * behind);
    } else {
      std::vector<Acc> sums(static_cast<size_t>(size * behind));
      for (int64_t i = first; i < last; ++i) {
        add(i, sums.data());
        for (int64_t k = 0; k < size * behind; ++k) out[i * size * behind + k] = T(sums[static_cast<size_t>(k)]);
      }
    }
  }

  void add(int64_t i, Acc* sums) const {
    const T* from = gradient + i * selected * behind;
    const int64_t* places = index + before.split(i).quotient * index_row_stride;
    for (int64_t k = 0; k < size * behind; ++k) sums[k] = Acc(0);
    if (behind == 1) {
      for (int64_t w = 0; w < selected; ++w) sums[places[w * index_stride]] += Acc(from[w]);
      return;
    }
    for (int64_t w = 0; w < selected; ++w) {
      Acc* to = sums + places[w * index_stride] * behind;
      FASTRL_IVDEP
      for (int64_t q = 0; q < behind; ++q) to[q] += Acc(from[w * behind + q]);
    }
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
Tensor batched_index_select(const Tensor& input, int64_t dim, const Tensor& asked) {
  const SelectedAxis shape = SelectedAxis::of("batched_index_select", input, dim, asked);
  Tensor out = new_with_axis(input, dim, shape.selected);  // before values are looked at: what is too large is refused at once
  const Tensor index = checked_indices("batched_index_select", "index", asked, shape.size, input);
  if (out.numel() == 0) return out;
  // a view wherever the strides allow it
  const Tensor flat = torch::stable::reshape(input, {shape.batch, shape.before, shape.size, shape.behind});
  const int64_t bytes = static_cast<int64_t>(input.element_size());
  const int32_t device = input.get_device_index();
  const SelectedRows rows{Divisor(shape.selected),
                          Divisor(shape.before),
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
Tensor batched_index_select_backward(const Tensor& gradient, int64_t dim, const Tensor& asked, int64_t size) {
  constexpr const char* kOp = "batched_index_select_backward";
  const SelectedAxis shape = SelectedAxis::of(kOp, gradient, dim, asked);
  FASTRL_CHECK(shape.size == shape.selected, kOp, ": gradient and index disagree about W");
  FASTRL_CHECK(size >= 0, kOp, ": size must not be negative");
  const Tensor index = checked_indices(kOp, "index", asked, size, gradient);
  Tensor out = new_with_axis(gradient, dim, size);
  if (out.numel() == 0) return out;
  const Tensor whole = torch::stable::contiguous(gradient);
  for_floating_type(kOp, "gradient", gradient, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const auto* from = static_cast<const T*>(whole.data_ptr());
    auto* to = static_cast<T*>(out.data_ptr());
    if constexpr (Backend::kInOrder) {
      if (shape.behind * static_cast<int64_t>(sizeof(T)) < kShortRow) {
        const auto* places = static_cast<const int64_t*>(index.data_ptr());
        const AddLists<T> op{Divisor(shape.before), shape.selected, size, shape.behind, from, places, index.stride(0), index.stride(1), to};
        return Backend::for_ranges(op, shape.batch * shape.before, out.numel() + gradient.numel());
      }
    }
    const Groups groups = group_windows<Backend>(std::nullopt, index, std::nullopt, shape.batch, size, false);
    const SumRows<T> op{shape.batch * shape.before * size,
                        shape.behind,
                        Divisor(shape.before),
                        false,
                        from,
                        Divisor(std::max<int64_t>(shape.selected, 1)),
                        Divisor(size),
                        groups.order_data(),
                        groups.starts_data(),
                        to};
    Backend::for_each_row(op, gradient.get_device_index());
  });
  return out;
}

}  // namespace fastrl
