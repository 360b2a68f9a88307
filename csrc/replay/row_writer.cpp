#include "replay/row_writer.h"

#include <cstring>

#include "core/short_copy.h"

namespace py = pybind11;

namespace fastrl {
namespace {

constexpr const char* kOp = "SequenceStorage.write";
constexpr int64_t kLine = 64;
constexpr int64_t kLongBytes = 256;  // from here on memcpy is worth its call

// Bytes that lie together at the end of an array's dimensions from `first` on, if all of them do; else 0.
int64_t bytes_together(const Array& array, int first) {
  int64_t bytes = array.item_bytes();
  for (int d = array.dim(); d-- > first; bytes *= array.size(d))
    if (array.size(d) != 1 && array.stride(d) != bytes) return 0;
  return bytes;
}

// Element by element, for values that lie in some order of their own; returns where the next one goes.
char* copy_elements(const Array& from, int d, const char* source, char* to) {
  if (d == from.dim()) {
    std::memcpy(to, source, static_cast<size_t>(from.item_bytes()));
    return to + from.item_bytes();
  }
  for (int64_t i = 0; i < from.size(d); ++i) to = copy_elements(from, d + 1, source + i * from.stride(d), to);
  return to;
}

}  // namespace

RowWriter::RowWriter(const py::tuple& names, const py::tuple& fields)
    : fields_(new Field[fields.size()]), values_(new Array[fields.size()]), count_(fields.size()) {
  if (names.size() != count_ || count_ == 0) throw py::value_error("RowWriter: names and fields must be as many, and at least one");
  for (size_t i = 0; i < count_; ++i) {
    Field& field = fields_[i];
    field.name = names[i];
    field.tensor = fields[i];
    field.name_text = py::str(field.name);
    field.memory.look_at(field.tensor, "RowWriter", field.name_text.c_str());
    if (field.memory.dim() < 2) throw py::value_error("RowWriter: a field must have shape [C, N, ...]");
    if (i == 0) {
      capacity_ = field.memory.size(0);
      num_envs_ = field.memory.size(1);
    }
    if (field.memory.size(0) != capacity_ || field.memory.size(1) != num_envs_) throw py::value_error("RowWriter: fields differ in C or N");
    field.bytes = field.memory.empty() ? 0 : bytes_together(field.memory, 2);
    if (field.bytes == 0 && !field.memory.empty()) throw py::value_error("RowWriter: the values of one row must lie together");
  }
}

void RowWriter::write(int64_t row, const py::dict& values) {
  if (row < 0 || row >= capacity_)
    throw py::index_error(std::string(kOp) + ": row must be in [0, " + std::to_string(capacity_) + "), got " + std::to_string(row));
  for (size_t i = 0; i < count_; ++i) {
    PyObject* value = PyDict_GetItemWithError(values.ptr(), fields_[i].name.ptr());
    if (value == nullptr) {
      if (PyErr_Occurred() != nullptr) throw py::error_already_set();
      throw py::value_error(std::string(kOp) + ": values must have " + fields_[i].name_text);
    }
    values_[i].look_at(value, kOp, fields_[i].name_text.c_str());
    check(fields_[i], values_[i]);
  }
  if (values.size() != count_) {
    for (const auto& item : values) {
      bool known = false;
      for (size_t i = 0; i < count_ && !known; ++i) known = item.first.equal(fields_[i].name);
      if (!known) throw py::value_error(std::string(kOp) + ": values must not have " + std::string(py::str(item.first)) + ", no field");
    }
  }
  for (size_t i = 0; i < count_; ++i) {
    copy(fields_[i], values_[i], row);
    values_[i].release();
  }
}

void RowWriter::check(const Field& field, const Array& value) const {
  const std::string& name = field.name_text;
  bool fits = value.dim() == field.memory.dim() - 1;
  for (int d = 0; fits && d < value.dim(); ++d) fits = value.size(d) == field.memory.size(d + 1);
  if (!fits) {
    std::string wanted;
    for (int d = 1; d < field.memory.dim(); ++d) wanted += (d > 1 ? ", " : "") + std::to_string(field.memory.size(d));
    throw py::value_error(std::string(kOp) + ": " + name + " must have shape [N, ...] = [" + wanted + "], got " + value.shape_text());
  }
  if (!value.has_dtype(field.memory.dtype()))
    throw py::type_error(std::string(kOp) + ": " + name + " must be " + field.memory.dtype_text() + ", got " + value.dtype_text());
}

void RowWriter::copy(const Field& field, const Array& value, int64_t row) {
  if (value.empty()) return;
  const int64_t to_stride = field.memory.stride(1), from_stride = value.stride(0), streams = value.size(0);
  char* const to = field.memory.data() + row * field.memory.stride(0);
  const char* const from = value.data();
  const auto each_stream = [&](const auto& copy_stream) FASTRL_INLINE {
    for (int64_t n = 0; n < streams; ++n) copy_stream(to + n * to_stride, from + n * from_stride);
  };
  if (bytes_together(value, 1) != field.bytes)
    each_stream([&](char* one, const char* other) { copy_elements(value, 1, other, one); });
  else if (field.bytes > kLongBytes)
    each_stream([&](char* one, const char* other) {
      // streams lie far apart: ask for the lines of the next but one while those of this one are written
      for (int64_t line = 0; line < field.bytes; line += kLine) __builtin_prefetch(one + 2 * to_stride + line, 1);
      std::memcpy(one, other, static_cast<size_t>(field.bytes));
    });
  else
    cpu::with_copy_of(field.bytes, each_stream);
}

}  // namespace fastrl
