// fastrl._native: native state bound with pybind11, and what was built; `fastrl doctor` prints that.
#include <pybind11/pybind11.h>

#include <string>

#include "replay/binding.h"

namespace py = pybind11;

namespace {

py::dict build_info() {
  py::dict info;
  info["fastrl"] = FASTRL_VERSION;
  info["torch"] = FASTRL_TORCH_VERSION;
  info["compiler"] = FASTRL_COMPILER;
  info["build_type"] = FASTRL_BUILD_TYPE;
  info["cuda_compiler"] = std::string(FASTRL_CUDA_COMPILER);
  info["cuda_architectures"] = std::string(FASTRL_CUDA_ARCHITECTURES);
  info["sanitized"] = static_cast<bool>(FASTRL_SANITIZED);
  return info;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native state of fastrl.";
  m.def("build_info", &build_info, "What this build is: versions, compilers, CUDA architectures, sanitizers.");
  fastrl::bind_replay(m);
}
