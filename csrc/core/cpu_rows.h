// Rows put together from elsewhere, on one thread; see rows.h.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/cpu_scan.h"
#include "core/host_device.h"

namespace fastrl {
namespace cpu {

// Rows that follow each other in the source, as the slots of a window do, are one long copy.
template <class Op>
FASTRL_HD int64_t end_of_run(const Op& op, int64_t row, int64_t last, const char* source) {
  int64_t end = row + 1;
  for (; end < last; ++end) {
    const char* next = op.source(end);
    if (source == nullptr ? next != nullptr : next != source + (end - row) * op.row_bytes) break;
  }
  return end;
}

template <class Op>
FASTRL_HD void gather_rows(const Op& op, bool streams, int64_t first, int64_t last) {
  for (int64_t row = first; row < last;) {
    const char* source = op.source(row);
    const int64_t end = end_of_run(op, row, last, source);
    char* to = op.out + row * op.row_bytes;
    const auto bytes = (end - row) * op.row_bytes;
    if (source == nullptr)
      std::memset(to, 0, static_cast<size_t>(bytes));
    else if (streams)
      stream_copy(to, source, bytes);
    else
      std::memcpy(to, source, static_cast<size_t>(bytes));
    row = end;
  }
  if (streams) finish_streaming();
}

template <class Op>
FASTRL_HD void compute_rows(const Op& op, bool streams, int64_t first, int64_t last) {
  using T = typename Op::Element;
  constexpr int64_t kStage = 1024 / static_cast<int64_t>(sizeof(T));
  alignas(64) T stage[kStage];
  for (int64_t row = first; row < last; ++row) {
    const auto at = op.at(row);
    T* to = op.out + row * op.columns;
    if (!streams) {
      op.compute(at, 0, op.columns, to);
      continue;
    }
    for (int64_t begin = 0; begin < op.columns; begin += kStage) {
      const int64_t end = std::min(op.columns, begin + kStage);
      op.compute(at, begin, end, stage);
      stream_copy(to + begin, stage, (end - begin) * static_cast<int64_t>(sizeof(T)));
    }
  }
  if (streams) finish_streaming();
}

}  // namespace cpu
}  // namespace fastrl
