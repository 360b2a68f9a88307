// The CPU backend: which instructions, how many threads, and the reverse scan.
#pragma once

#include <algorithm>

#include "core/cpu_rows.h"
#include "core/cpu_scan.h"
#include "core/groups.h"
#include "core/recurrence.h"
#include "core/tensor.h"

namespace fastrl {

struct Cpu {
  static constexpr bool kInOrder = true;  // a thread does one thing after the other, and finds in cache what it has just used

  // work(first, last) over [0, units), cut among at most `threads`: as many as each have their share's worth to do, for a thread and a
  // little more are not worth two.
  template <class Work>
  static void share(int64_t units, int64_t threads, const Work& work) {
    if (threads < 2 || units < 2)
      work(0, units);
    else
      torch::stable::parallel_for(0, units, (units + threads - 1) / threads, work);
  }

  // body(i) for every i below `count`, in any order.
  template <class Body>
  static void for_each(const Body& body, int64_t count, int32_t /*device*/) {
    const auto range = [&body](int64_t first, int64_t last) {
      cpu::with_best_instructions([&]() FASTRL_INLINE {
        const Body local = body;  // known to the compiler as unaliased
        FASTRL_IVDEP
        for (int64_t i = first; i < last; ++i) local(i);
      });
    };
    share(count, count / kElementsPerThread, range);
  }

  // body(first, last) for ranges that make up [0, count), which take `elements` steps together.
  template <class Body>
  static void for_ranges(const Body& body, int64_t count, int64_t elements) {
    share(count, elements / kElementsPerThread, [&](int64_t first, int64_t last) {
      cpu::with_best_instructions([&]() FASTRL_INLINE { body(first, last); });
    });
  }

  // see rows.h
  template <class Op>
  static void gather_rows(const Op& op, int32_t /*device*/) {
    const int64_t bytes = op.rows * op.row_bytes;
    const bool streams = cpu::outgrows_cache(bytes);
    share(op.rows, bytes / kBytesPerThread, [&](int64_t first, int64_t last) { cpu::gather_rows(op, streams, first, last); });
  }

  template <class Op>
  static void for_each_row(const Op& op, int32_t /*device*/) {
    const int64_t bytes = op.rows * op.columns * static_cast<int64_t>(sizeof(typename Op::Element));
    const bool streams = cpu::outgrows_cache(bytes);
    share(op.rows, bytes / kBytesPerThread, [&](int64_t first, int64_t last) {
      cpu::with_best_instructions([&]() FASTRL_INLINE { cpu::compute_rows(op, streams, first, last); });
    });
  }

  // `keys` [M] int64 in [0, destinations], grouped; see groups.h. Counting sort.
  static Groups group(const Tensor& keys, int64_t destinations, int32_t /*device*/) {
    const int64_t count = keys.size(0);
    Groups groups{new_tensor(keys, {count}), new_tensor(keys, {destinations + 1})};
    const auto* key = static_cast<const int64_t*>(keys.data_ptr());
    auto* order = static_cast<int64_t*>(groups.order.data_ptr());
    auto* starts = static_cast<int64_t*>(groups.starts.data_ptr());
    std::vector<int64_t> next(static_cast<size_t>(destinations) + 2, 0);
    for (int64_t i = 0; i < count; ++i) ++next[static_cast<size_t>(key[i]) + 1];
    for (size_t d = 1; d < next.size(); ++d) next[d] += next[d - 1];
    for (int64_t d = 0; d <= destinations; ++d) starts[d] = next[static_cast<size_t>(d)];
    for (int64_t i = 0; i < count; ++i) order[next[static_cast<size_t>(key[i])]++] = i;
    return groups;
  }

  // x_t = offset_t + factor_t x_{t+1} down every column of a time-major [T, N] op. How the work is cut into pieces depends on the
  // shape alone, and no piece's numbers depend on the others: the bits are the same for any number of threads and any strides.
  template <class Op>
  static void reverse_scan(const Op& op, int32_t /*device*/) {
    if (op.masked())
      reverse_scan_masked<Op, true>(op);
    else
      reverse_scan_masked<Op, false>(op);
  }

 private:
  static constexpr int64_t kElementsPerThread = 1 << 16;  // less work than this costs more to hand out than to do
  static constexpr int64_t kBytesPerThread = 1 << 20;
  // A scan does several elements in a nanosecond, and a thread that has to wait for a processor costs milliseconds: share only what takes
  // a while.
  static constexpr int64_t kScannedPerThread = 1 << 18;
  static constexpr int64_t kColumnUnit = 16;  // threads part at whole cache lines of float32

  template <class Op, bool kMasked>
  static void reverse_scan_masked(const Op& op) {
    if (op.num_envs < cpu::kLanes) return scan_narrow<Op, kMasked>(op);
    const bool streams =
        cpu::outgrows_cache(op.num_steps * op.num_envs * static_cast<int64_t>(sizeof(typename Op::Element)) * Op::kOutputs);
    const int64_t units = (op.num_envs + kColumnUnit - 1) / kColumnUnit;
    const auto columns = [&](int64_t first, int64_t last) {
      scan_wide<Op, kMasked>(op, streams, first * kColumnUnit, std::min(last * kColumnUnit, op.num_envs));
    };
    share(units, op.num_steps * op.num_envs / kScannedPerThread, columns);
  }

  // Half precision converts element by element: wider instructions gain little and would double the time it takes to compile the scans.
  template <class T, class Body>
  static void with_instructions_for(const Body& body) {
    if constexpr (sizeof(T) >= sizeof(float))
      cpu::with_best_instructions(body);
    else
      body();
  }

  template <class Op, bool kMasked>
  static void scan_narrow(const Op& op) {
    if (op.contiguous())
      with_instructions_for<typename Op::Element>([&]() FASTRL_INLINE { cpu::scan_narrow<Op, true, kMasked>(op); });
    else
      cpu::scan_narrow<Op, false, kMasked>(op);
  }

  template <class Op, bool kMasked>
  static void scan_wide(const Op& op, bool streams, int64_t first, int64_t last) {
    if (!op.unit_stride())
      cpu::scan_wide<Op, false, kMasked, false>(op, first, last);
    else if (streams)
      with_instructions_for<typename Op::Element>([&]() FASTRL_INLINE { cpu::scan_wide<Op, true, kMasked, true>(op, first, last); });
    else
      with_instructions_for<typename Op::Element>([&]() FASTRL_INLINE { cpu::scan_wide<Op, true, kMasked, false>(op, first, last); });
  }
};

}  // namespace fastrl
