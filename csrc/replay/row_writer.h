// One row of every field of a replay storage written by one call.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "replay/array.h"

namespace fastrl {

// `names` and `fields` belong together; a field is a tensor [C, N, ...] on the CPU whose values of one stream at one position lie together.
class RowWriter {
 public:
  RowWriter(const pybind11::tuple& names, const pybind11::tuple& fields);

  // values: name -> [N, ...] tensor or array, any strides, the field's dtype. Nothing is written unless all of them are right.
  void write(int64_t row, const pybind11::dict& values);

 private:
  struct Field {
    pybind11::object name, tensor;  // kept, and with the tensor its memory
    std::string name_text;
    Array memory;
    int64_t bytes;  // of one stream at one position
  };

  void check(const Field& field, const Array& value) const;
  static void copy(const Field& field, const Array& value, int64_t row);

  std::unique_ptr<Field[]> fields_;
  std::unique_ptr<Array[]> values_;
  size_t count_;
  int64_t capacity_ = 0, num_envs_ = 0;
};

}  // namespace fastrl
