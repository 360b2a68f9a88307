// Tensors and numpy arrays seen from native code, without copying and in a fraction of a microsecond.
#pragma once

#include <ATen/dlpack.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

namespace fastrl {

// The memory of a dense tensor or array on the CPU: valid until it is released, while the Python object lives on unchanged.
class Array {
 public:
  Array() = default;
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  ~Array() { release(); }

  // Raises TypeError or ValueError beginning with "<op>: <name> must" if `object` is neither a tensor nor an array.
  void look_at(pybind11::handle object, const char* op, const char* name);
  void release() {
    if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
  }

  char* data() const { return data_; }
  int dim() const { return dim_; }
  int64_t size(int d) const { return shape_[d]; }
  int64_t stride(int d) const { return strides_[d]; }  // bytes
  int64_t item_bytes() const { return dtype_.bits / 8; }
  DLDataType dtype() const { return dtype_; }
  bool empty() const;

  bool has_dtype(DLDataType wanted) const {
    return dtype_.code == wanted.code && dtype_.bits == wanted.bits && dtype_.lanes == wanted.lanes;
  }
  std::string shape_text() const;  // "[3, 4]"
  std::string dtype_text() const;  // "float32"

 private:
  void look_at_tensor(pybind11::handle object, const std::string& what);
  void look_at_buffer(pybind11::handle object, const std::string& what);

  static constexpr int kMostDims = 64;  // as many as torch and numpy have
  char* data_ = nullptr;
  int dim_ = 0;
  int64_t shape_[kMostDims], strides_[kMostDims];
  DLDataType dtype_{};
  Py_buffer buffer_{};
};

}  // namespace fastrl
