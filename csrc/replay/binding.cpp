// The replay's native state in Python: fastrl.data.sequence_index and fastrl.data.sequence_storage stand before it.
#include "replay/binding.h"

#include <string>

#include "replay/array.h"
#include "replay/row_writer.h"
#include "replay/sequence_index.h"

namespace py = pybind11;

namespace fastrl {
namespace {

constexpr int64_t kMostBits = int64_t{1} << 56;  // far more than memory holds, and sums of such numbers do not overflow

void check_at_least(const char* op, const char* name, int64_t value, int64_t least) {
  if (value < least)
    throw py::value_error(std::string(op) + ": " + name + " must be at least " + std::to_string(least) + ", got " + std::to_string(value));
}

SequenceIndex make_index(int64_t capacity, int64_t num_envs, uint64_t seed) {
  check_at_least("SequenceIndex", "capacity", capacity, 1);
  check_at_least("SequenceIndex", "num_envs", num_envs, 1);
  if (capacity > kMostBits / num_envs) throw py::value_error("SequenceIndex: capacity times num_envs must be at most 2^56");
  return SequenceIndex(capacity, num_envs, seed);
}

int64_t append(SequenceIndex& index, py::handle valid) {
  Array flags;
  flags.look_at(valid, "SequenceIndex.append", "valid");
  if (flags.dim() != 1 || flags.size(0) != index.num_envs())
    throw py::value_error("SequenceIndex.append: valid must have shape [N] = [" + std::to_string(index.num_envs()) + "], got " +
                          flags.shape_text());
  if (!flags.has_dtype({kDLBool, 8, 1})) throw py::type_error("SequenceIndex.append: valid must be bool, got " + flags.dtype_text());
  const char* flag = flags.data();
  const int64_t stride = flags.stride(0);
  return index.append([flag, stride](int64_t n) { return flag[n * stride] != 0; });
}

std::string rows_and_transitions(const SequenceIndex& index) {
  return std::to_string(index.rows()) + " rows are stored, with " + std::to_string(index.transitions()) + " transitions";
}

// Writes starts and environments into `windows`, int64 [2, batch_size] contiguous.
void sample(SequenceIndex& index, int64_t seq_len, py::handle windows) {
  Array out;
  out.look_at(windows, "SequenceIndex.sample", "windows");
  if (!out.has_dtype({kDLInt, 64, 1}) || out.dim() != 2 || out.size(0) != 2 || (!out.empty() && (out.stride(1) != 8 && out.size(1) != 1)))
    throw py::value_error("SequenceIndex.sample: windows must be int64 [2, batch_size], rows contiguous");
  check_at_least("SequenceIndex.sample", "seq_len", seq_len, 1);
  if (seq_len > index.rows()) {
    const std::string never = seq_len > index.capacity() ? ", more than the capacity of " + std::to_string(index.capacity()) : "";
    throw py::value_error("SequenceIndex.sample: a window of " + std::to_string(seq_len) + " rows needs as many stored rows" + never +
                          ", but " + rows_and_transitions(index));
  }
  if (index.num_windows(seq_len) == 0)
    throw py::value_error("SequenceIndex.sample: no window of " + std::to_string(seq_len) +
                          " rows begins with a transition: " + rows_and_transitions(index));
  if (out.empty()) return;
  auto* start = reinterpret_cast<int64_t*>(out.data());
  index.sample(seq_len, out.size(1), start, reinterpret_cast<int64_t*>(out.data() + out.stride(0)));
}

int64_t num_windows(const SequenceIndex& index, int64_t seq_len) {
  check_at_least("SequenceIndex.num_windows", "seq_len", seq_len, 1);
  return index.num_windows(seq_len);
}

py::tuple random_state(const SequenceIndex& index) {
  const Random::State state = index.state().random;
  return py::make_tuple(state[0], state[1], state[2], state[3]);
}

// Writes which rows hold transitions into `bits`, uint8 [num_bytes].
void save_bits(const SequenceIndex& index, py::handle bits) {
  Array out;
  out.look_at(bits, "SequenceIndex.state_dict", "bits");
  const RankedBits& valid = index.valid();
  if (!out.has_dtype({kDLUInt, 8, 1}) || out.dim() != 1 || out.size(0) != valid.num_bytes())
    throw py::value_error("SequenceIndex.state_dict: bits must be uint8 [num_bytes]");
  for (int64_t i = 0; i < valid.num_bytes(); ++i) out.data()[i * out.stride(0)] = static_cast<char>(valid.byte(i));
}

void load(SequenceIndex& index, int64_t rows, int64_t write_position, const Random::State& random, py::handle bits) {
  Array in;
  in.look_at(bits, "SequenceIndex.load_state_dict", "valid");
  if (!in.has_dtype({kDLUInt, 8, 1}) || in.dim() != 1 || (in.size(0) > 1 && in.stride(0) != 1))
    throw py::value_error("SequenceIndex.load_state_dict: valid must be uint8 [bytes], contiguous");
  const char* wrong = index.load({rows, write_position, random}, reinterpret_cast<const uint8_t*>(in.data()), in.size(0));
  if (wrong != nullptr) throw py::value_error(std::string("SequenceIndex.load_state_dict: ") + wrong);
}

}  // namespace

void bind_replay(py::module_& module) {
  py::class_<SequenceIndex>(module, "SequenceIndex")
      .def(py::init(&make_index), py::arg("capacity"), py::arg("num_envs"), py::arg("seed"))
      .def_property_readonly("rows", &SequenceIndex::rows)
      .def_property_readonly("write_position", &SequenceIndex::write_position)
      .def_property_readonly("transitions", &SequenceIndex::transitions)
      .def_property_readonly("num_bytes", [](const SequenceIndex& index) { return index.valid().num_bytes(); })
      .def_property_readonly("random", &random_state)
      .def("append", &append)
      .def("num_windows", &num_windows)
      .def("sample", &sample)
      .def("save_bits", &save_bits)
      .def("load",
           [](SequenceIndex& index,
              int64_t rows,
              int64_t write_position,
              uint64_t random0,
              uint64_t random1,
              uint64_t random2,
              uint64_t random3,
              py::handle bits) { load(index, rows, write_position, {random0, random1, random2, random3}, bits); });
  py::class_<RowWriter>(module, "RowWriter")
      .def(py::init<const py::tuple&, const py::tuple&>(), py::arg("names"), py::arg("fields"))
      .def("write", &RowWriter::write);
}

}  // namespace fastrl
