#include "replay/array.h"

#include <cstring>

namespace py = pybind11;

namespace fastrl {
namespace {

// torch's own way of showing a tensor to native code (DLPack's exchange interface), if this torch has it. Asked for once: torch.Tensor
// lives as long as the process.
struct TorchTensors {
  PyTypeObject* type = nullptr;
  const DLPackExchangeAPI* exchange = nullptr;

  TorchTensors() {
    type = reinterpret_cast<PyTypeObject*>(py::module_::import("torch").attr("Tensor").ptr());
    const py::object capsule = py::getattr(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__", py::none());
    if (!PyCapsule_IsValid(capsule.ptr(), "dlpack_exchange_api")) return;
    const auto* found = static_cast<const DLPackExchangeAPI*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
    if (found->header.version.major == DLPACK_MAJOR_VERSION && found->dltensor_from_py_object_no_sync != nullptr) exchange = found;
  }
};

const TorchTensors& torch_tensors() {
  static const TorchTensors found;
  return found;
}

// Whether a tensor's memory holds the negative or the conjugate of its values, as torch may put off computing them.
bool is_lazy(PyObject* tensor, uint8_t code) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  static PyObject* const is_conj = PyUnicode_InternFromString("is_conj");
  for (PyObject* question : {is_neg, is_conj}) {
    if (code != kDLComplex && (code != kDLFloat || question == is_conj)) continue;
    const auto answer = py::reinterpret_steal<py::object>(PyObject_CallMethodObjArgs(tensor, question, nullptr));
    if (!answer) throw py::error_already_set();
    if (answer.ptr() != Py_False) return true;
  }
  return false;
}

// The element type behind a format of Python's buffers; code kDLOpaqueHandle for what has none here.
DLDataType dtype_of_format(const char* format, Py_ssize_t item_bytes) {
  const uint8_t bits = item_bytes >= 1 && item_bytes <= 16 ? static_cast<uint8_t>(8 * item_bytes) : uint8_t{0};
  if (format == nullptr) format = "B";
  if (*format == '@' || *format == '=' || *format == '<') ++format;  // this machine's order of bytes, as numpy's formats say
  uint8_t code = kDLOpaqueHandle;
  if (format[0] != '\0' && format[1] == '\0') {
    if (*format == '?') code = kDLBool;
    if (std::strchr("bhilqn", *format) != nullptr) code = kDLInt;
    if (std::strchr("BHILQN", *format) != nullptr) code = kDLUInt;
    if (std::strchr("efd", *format) != nullptr) code = kDLFloat;
  } else if (std::strcmp(format, "Zf") == 0 || std::strcmp(format, "Zd") == 0) {
    code = kDLComplex;
  }
  return {code, bits, 1};
}

}  // namespace

void Array::look_at(py::handle object, const char* op, const char* name) {
  release();
  const TorchTensors& torch = torch_tensors();
  // Subclasses may have no memory behind them.
  if (Py_TYPE(object.ptr()) == torch.type && torch.exchange != nullptr) {
    DLTensor tensor;
    if (torch.exchange->dltensor_from_py_object_no_sync(object.ptr(), &tensor) == 0 && tensor.device.device_type == kDLCPU &&
        tensor.ndim <= kMostDims) {
      data_ = static_cast<char*>(tensor.data) + tensor.byte_offset;
      dim_ = tensor.ndim;
      dtype_ = tensor.dtype;
      int64_t stride = 1;
      for (int d = dim_; d-- > 0; stride *= shape_[d]) {
        shape_[d] = tensor.shape[d];
        strides_[d] = (tensor.strides == nullptr ? stride : tensor.strides[d]) * item_bytes();
      }
      if ((tensor.data != nullptr || empty()) && !is_lazy(object.ptr(), dtype_.code)) return;
    }
    PyErr_Clear();
  }
  const std::string what = std::string(op) + ": " + name;
  if (PyObject_TypeCheck(object.ptr(), torch.type))
    look_at_tensor(object, what);
  else
    look_at_buffer(object, what);
}

// What the quick way did not take: other devices, other layouts, subclasses, a torch without the exchange.
void Array::look_at_tensor(py::handle object, const std::string& what) {
  const std::string device = py::str(object.attr("device"));
  if (device != "cpu") throw py::value_error(what + " must be on the CPU, got " + device);
  py::object array;
  try {
    array = object.attr("detach")().attr("numpy")();
  } catch (py::error_already_set& error) {
    throw py::type_error(what + " must be a dense tensor that numpy can show, got " + std::string(py::str(error.value())));
  }
  look_at_buffer(array, what);  // the buffer keeps its array, and that the tensor's memory
}

void Array::look_at_buffer(py::handle object, const std::string& what) {
  if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    PyErr_Clear();
    buffer_.obj = nullptr;
    throw py::type_error(what + " must be a tensor or a numpy array, got " + Py_TYPE(object.ptr())->tp_name);
  }
  data_ = static_cast<char*>(buffer_.buf);
  dim_ = buffer_.ndim;
  for (int d = 0; d < dim_; ++d) {
    shape_[d] = buffer_.shape[d];
    strides_[d] = buffer_.strides[d];
  }
  dtype_ = dtype_of_format(buffer_.format, buffer_.itemsize);
}

bool Array::empty() const {
  for (int d = 0; d < dim_; ++d)
    if (shape_[d] == 0) return true;
  return false;
}

std::string Array::shape_text() const {
  std::string text = "[";
  for (int d = 0; d < dim_; ++d) text += (d > 0 ? ", " : "") + std::to_string(shape_[d]);
  return text + "]";
}

std::string Array::dtype_text() const {
  static const char* const kNames[] = {"int", "uint", "float", "", "bfloat", "complex"};
  if (dtype_.code == kDLBool) return "bool";
  if (dtype_.code > kDLComplex || dtype_.code == kDLOpaqueHandle) return "another dtype";
  return kNames[dtype_.code] + std::to_string(dtype_.bits);
}

}  // namespace fastrl
