// torch's stable ABI as fastrl uses it. The only file that includes torch/csrc/stable.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <optional>
#include <tuple>
#include <vector>

#include "core/host_device.h"

namespace fastrl {

using Tensor = torch::stable::Tensor;
using ScalarType = torch::headeronly::ScalarType;

// The Python wrappers explain bad input with the proper exception; these checks keep a direct call through torch.ops from doing harm.
#define FASTRL_CHECK(condition, ...) STD_TORCH_CHECK(condition, __VA_ARGS__)

inline void check_matrix(const char* op, const char* name, const Tensor& tensor, int64_t rows, int64_t columns) {
  FASTRL_CHECK(tensor.dim() == 2 && tensor.size(0) == rows && tensor.size(1) == columns,
               op,
               ": ",
               name,
               " must have shape [",
               rows,
               ", ",
               columns,
               "]");
}

inline void check_like(const char* op, const char* name, const Tensor& tensor, ScalarType dtype, const Tensor& like) {
  FASTRL_CHECK(tensor.scalar_type() == dtype, op, ": ", name, " has the wrong dtype");
  FASTRL_CHECK(tensor.device() == like.device(), op, ": ", name, " must be on the same device as the first argument");
}

// false for NaN too
inline void check_fraction(const char* op, const char* name, double value) {
  FASTRL_CHECK(value >= 0.0 && value <= 1.0, op, ": ", name, " must be in [0, 1], got ", value);
}

// infinity is welcome, NaN is not
inline void check_not_negative(const char* op, const char* name, double value) {
  FASTRL_CHECK(value >= 0.0, op, ": ", name, " must not be negative, got ", value);
}

// Fresh memory costs a page fault for every 4 KiB, several times what an op takes to fill it; with huge pages it costs a fraction of that.
// A hint: the system may ignore it.
inline void prefer_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~(kHugePage - 1);
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

// A new contiguous tensor of `dim` sizes, of the dtype and on the device of `like`; through the C interface, which spares the dispatcher's
// look-up by name.
inline Tensor new_tensor(const Tensor& like, const int64_t* sizes, int64_t dim, std::optional<int32_t> other_dtype = {}) {
  constexpr int64_t kMaxDim = 64;  // as many as torch has
  FASTRL_CHECK(dim <= kMaxDim, "a tensor of more than ", kMaxDim, " dimensions");
  int64_t strides[kMaxDim];
  int64_t elements = 1;  // that a tensor without empty dimensions would have
  const int64_t most = INT64_MAX / (other_dtype ? 8 : static_cast<int64_t>(like.element_size()));
  bool empty = false;
  for (int64_t d = dim; d-- > 0;) {
    strides[d] = elements;
    empty = empty || sizes[d] == 0;
    const int64_t size = sizes[d] > 1 ? sizes[d] : 1;
    FASTRL_CHECK(elements <= most / size, "a result would have more than 2^63 bytes");
    elements *= size;
  }
  int32_t dtype = 0, device_type = 0, device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
  if (other_dtype) dtype = *other_dtype;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(dim, sizes, strides, dtype, device_type, device_index, &handle));
  Tensor tensor(handle);
  if (device_type == aoti_torch_device_type_cpu() && !empty)
    prefer_huge_pages(tensor.data_ptr(), elements * static_cast<int64_t>(tensor.element_size()));
  return tensor;
}

// In the dtype that numbers of the dtype of `like` are added up in.
inline Tensor new_accumulator(const Tensor& like, const std::vector<int64_t>& sizes) {
  const bool wide = like.scalar_type() == ScalarType::Double;
  return new_tensor(like, sizes.data(), static_cast<int64_t>(sizes.size()), wide ? aoti_torch_dtype_float64() : aoti_torch_dtype_float32());
}

inline Tensor new_tensor(const Tensor& like, const std::vector<int64_t>& sizes) {
  return new_tensor(like, sizes.data(), static_cast<int64_t>(sizes.size()));
}

inline Tensor new_matrix(const Tensor& like, int64_t rows, int64_t columns) {
  const int64_t sizes[2] = {rows, columns};
  return new_tensor(like, sizes, 2);
}

template <class T>
View<T> view_of(const Tensor& tensor) {
  return {static_cast<T*>(tensor.data_ptr()), tensor.stride(0), tensor.stride(1)};
}

template <class T>
struct TypeTag {
  using type = T;
};

// The bytes from a tensor's first element to its last; none if it has none.
struct Reach {
  uintptr_t first, end;

  bool meets(const Reach& other) const { return first < other.end && other.first < end; }
};

inline Reach reach_of(const Tensor& tensor) {
  if (tensor.numel() == 0) return {0, 0};
  const auto first = reinterpret_cast<uintptr_t>(tensor.data_ptr());
  const auto sizes = tensor.sizes(), strides = tensor.strides();
  uintptr_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) last += static_cast<uintptr_t>((sizes[d] - 1) * strides[d]);
  return {first, first + (last + 1) * tensor.element_size()};
}

// Whether two tensors reach into the same memory; errs on the safe side.
inline bool overlap(const Tensor& one, const Tensor& other) { return reach_of(one).meets(reach_of(other)); }

// Sixteen bytes that are only moved.
struct alignas(8) Wide {
  uint64_t half[2];
};

// Calls body(TypeTag<T>) for a type as wide as the elements that are only moved.
template <class Body>
void for_width(const char* op, int64_t bytes, const Body& body) {
  switch (bytes) {
    case 1:
      return body(TypeTag<uint8_t>{});
    case 2:
      return body(TypeTag<uint16_t>{});
    case 4:
      return body(TypeTag<uint32_t>{});
    case 8:
      return body(TypeTag<uint64_t>{});
    case 16:
      return body(TypeTag<Wide>{});
    default:
      FASTRL_CHECK(false, op, ": elements of ", bytes, " bytes are not supported");
  }
}

// Calls body(TypeTag<T>) for the element type T of `tensor`; refuses all but the four floating dtypes of the ops.
template <class Body>
void for_floating_type(const char* op, const char* name, const Tensor& tensor, const Body& body) {
  switch (tensor.scalar_type()) {
    case ScalarType::Float:
      return body(TypeTag<float>{});
    case ScalarType::Double:
      return body(TypeTag<double>{});
    case ScalarType::BFloat16:
      return body(TypeTag<BFloat16>{});
    case ScalarType::Half:
      return body(TypeTag<Half>{});
    default:
      FASTRL_CHECK(false, op, ": ", name, " must be float32, float64, bfloat16 or float16");
  }
}

}  // namespace fastrl
