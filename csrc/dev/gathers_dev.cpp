// The GPU's way of gathering on the CPU, unit by unit, and divisions for tests.
#include "core/cpu.h"
#include "core/divisor.h"
#include "ops/batched_index_select.h"
#include "ops/memory_window_gather.h"

namespace fastrl {
namespace {

struct alignas(16) Unit16 {
  uint64_t half[2];
};

// Every element by itself, as the threads of a GPU do them; the grouping is the CPU's.
struct Lanes : Cpu {
  static constexpr bool kInOrder = false;

  template <class Op>
  static void for_each_row(const Op& op, int32_t /*device*/) {
    for (int64_t row = 0; row < op.rows; ++row) {
      const auto at = op.at(row);
      for (int64_t i = 0; i < op.columns; ++i) op.compute(at, i, i + 1, op.out + row * op.columns + i);
    }
  }

  template <class Op>
  static void gather_rows(const Op& op, int32_t device) {
    for_unit<Unit16>(op.alignment(), [&](auto tag) { for_each_row(UnitRows<typename decltype(tag)::type, Op>(op), device); });
  }
};

// n [M] int64, not negative, split by d: quotients and remainders.
std::tuple<Tensor, Tensor> split(const Tensor& n, int64_t d) {
  FASTRL_CHECK(d > 0 && n.dim() == 1 && n.is_contiguous() && n.scalar_type() == ScalarType::Long, "split: int64 [M] by a positive number");
  const Divisor divisor(d);
  Tensor quotients = new_tensor(n, {n.size(0)}), remainders = new_tensor(n, {n.size(0)});
  for (int64_t i = 0; i < n.size(0); ++i) {
    const auto [quotient, remainder] = divisor.split(static_cast<const int64_t*>(n.data_ptr())[i]);
    static_cast<int64_t*>(quotients.data_ptr())[i] = quotient;
    static_cast<int64_t*>(remainders.data_ptr())[i] = remainder;
  }
  return {quotients, remainders};
}

}  // namespace
}  // namespace fastrl

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def("split(Tensor n, int d) -> (Tensor, Tensor)");
  m.def("batched_index_select_lanes(Tensor input, int dim, Tensor index) -> Tensor");
  m.def("batched_index_select_backward_lanes(Tensor gradient, int dim, Tensor index, int size) -> Tensor");
  m.def("memory_window_gather_lanes(Tensor memory, Tensor episode, Tensor index, Tensor? mask=None, Tensor? position=None) -> Tensor");
  m.def(
      "memory_window_gather_backward_lanes(Tensor gradient, Tensor episode, Tensor index, Tensor? mask, int episodes, int slots,"
      " bool to_memory, bool to_position) -> (Tensor, Tensor)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("split", TORCH_BOX(&fastrl::split));
  m.impl("batched_index_select_lanes", TORCH_BOX(&fastrl::batched_index_select<fastrl::Lanes>));
  m.impl("batched_index_select_backward_lanes", TORCH_BOX(&fastrl::batched_index_select_backward<fastrl::Lanes>));
  m.impl("memory_window_gather_lanes", TORCH_BOX(&fastrl::memory_window_gather<fastrl::Lanes>));
  m.impl("memory_window_gather_backward_lanes", TORCH_BOX(&fastrl::memory_window_gather_backward<fastrl::Lanes>));
}
