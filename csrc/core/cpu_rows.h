// Rows put together from elsewhere, on one thread; see rows.h.
#pragma once

#include <algorithm>
#include <cstring>

#include "core/cpu_scan.h"
#include "core/host_device.h"
#include "core/line_copy.h"
#include "core/rows.h"
#include "core/short_copy.h"

namespace fastrl {
namespace cpu {

constexpr int64_t kFetched = 8192;     // bytes of the next run that are asked for: from there on the processor follows it by itself
constexpr int64_t kStreamed = 1024;    // shorter runs are written into the caches, be the result as large as it may
constexpr int64_t kStreamedRow = 256;  // shorter rows that are computed too
constexpr int64_t kStage = 8192;       // bytes of a row that are computed in the first-level cache before they are written past it

// Rows that follow each other in the table, as the slots of a window do, are one long copy.
FASTRL_HD int64_t end_of_run(const RowList& list, int64_t w, int64_t last, const char* source, int64_t bytes) {
  int64_t end = w + 1;
  for (; end < last; ++end) {
    if (source == nullptr ? list.has(end) : list.source(end) != source + (end - w) * bytes) break;
  }
  return end;
}

// One run, while the next is asked for: where it begins nobody could foresee.
FASTRL_HD void copy_run(char* to, const char* from, int64_t bytes, bool streams, const char* next, int64_t fetched) {
  if (streams && bytes >= kStreamed) {
    const int64_t before = (bytes - fetched) / kLine * kLine;
    if (before > 0) copy_fetching<true>(to, from, before, from);
    copy_fetching<true>(to + before, from + before, bytes - before, next == nullptr ? from : next);
  } else {
    if (next != nullptr) prefetch_lines(next, fetched);
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
}

// Rows [first, last) of a list; `following` is what comes after them.
FASTRL_HD void gather_runs(
    const RowList& list, int64_t first, int64_t last, char* to, int64_t row_bytes, bool streams, const char* following) {
  const int64_t fetched = std::min(row_bytes, kFetched);
  const char* source = list.source(first);
  for (int64_t w = first; w < last;) {
    const int64_t end = end_of_run(list, w, last, source, row_bytes);
    const char* next = end < last ? list.source(end) : following;
    const int64_t bytes = (end - w) * row_bytes;
    if (source == nullptr)
      std::memset(to, 0, static_cast<size_t>(bytes));
    else
      copy_run(to, source, bytes, streams, next, fetched);
    to += bytes;
    w = end;
    source = next;
  }
}

template <int64_t kBytes>
struct ElementCopy {
  inline FASTRL_INLINE void operator()(char* to, const char* from) const { std::memcpy(to, from, kBytes); }
};

// with_copy_of, where rows of one element are one move
template <class Use>
FASTRL_HD void with_row_copy(int64_t bytes, const Use& use) {
  switch (bytes) {
    case 1:
      return use(ElementCopy<1>{});
    case 2:
      return use(ElementCopy<2>{});
    case 4:
      return use(ElementCopy<4>{});
    case 8:
      return use(ElementCopy<8>{});
    default:
      return with_copy_of(bytes, use);
  }
}

template <class Copy>
FASTRL_HD void gather_short_rows(const RowList& list, int64_t first, int64_t last, char* to, int64_t row_bytes, const Copy& copy) {
  if (list.mask == nullptr) {
    for (int64_t w = first; w < last; ++w, to += row_bytes) copy(to, list.place(w));
  } else {
    for (int64_t w = first; w < last; ++w, to += row_bytes) {
      if (list.has(w))
        copy(to, list.place(w));
      else
        std::memset(to, 0, static_cast<size_t>(row_bytes));
    }
  }
}

// Calls body(list, first, last, to) for all of rows [first, last), list by list.
template <class Op, class Body>
FASTRL_HD void each_list(const Op& op, int64_t first, int64_t last, const Body& body) {
  const int64_t length = op.length.value();
  auto [list, w] = op.length.split(first);
  for (int64_t row = first; row < last; ++list, w = 0) {
    const int64_t count = std::min(length - w, last - row);
    body(list, w, w + count, op.out + row * op.row_bytes);
    row += count;
  }
}

template <class Op>
FASTRL_HD void gather_rows(const Op& op, bool streams, int64_t first, int64_t last) {
  if (op.row_bytes <= kLine) {
    with_row_copy(op.row_bytes, [&](const auto& copy) FASTRL_INLINE {
      each_list(op, first, last, [&](int64_t i, int64_t begin, int64_t end, char* to) FASTRL_INLINE {
        gather_short_rows(op.list(i), begin, end, to, op.row_bytes, copy);
      });
    });
    return;
  }
  streams = streams && whole_words(op.out, op.row_bytes);
  const int64_t lists = op.length.split(last + op.length.value() - 1).quotient;
  each_list(op, first, last, [&](int64_t i, int64_t begin, int64_t end, char* to) FASTRL_INLINE {
    const char* following = i + 1 < lists ? op.list(i + 1).source(0) : nullptr;
    gather_runs(op.list(i), begin, end, to, op.row_bytes, streams, following);
  });
  if (streams) finish_streaming();
}

template <class Op>
FASTRL_HD void compute_rows(const Op& shared_op, bool streams, int64_t first, int64_t last) {
  const Op op = shared_op;  // known to the compiler as unaliased
  using T = typename Op::Element;
  constexpr int64_t kSize = static_cast<int64_t>(sizeof(T)), kColumns = kStage / kSize;
  alignas(64) T stage[kColumns];
  if (first == last) return;
  streams = streams && op.columns * kSize >= kStreamedRow && whole_words(op.out, op.columns * kSize);
  auto at = op.at(first);
  for (int64_t row = first; row < last; ++row) {
    const auto now = at;
    T* to = op.out + row * op.columns;
    const T* next = nullptr;
    if (row + 1 < last) {
      at = op.at(row + 1);
      next = op.begin(at);
    }
    if (!streams) {
      if (next != nullptr) prefetch_lines(next, std::min(op.columns, kFetched / kSize));
      op.compute(now, 0, op.columns, to);
      continue;
    }
    for (int64_t begin = 0; begin < op.columns; begin += kColumns) {
      const int64_t end = std::min(op.columns, begin + kColumns);
      op.compute(now, begin, end, stage);
      copy_fetching<true>(to + begin, stage, (end - begin) * kSize, next == nullptr ? stage : next + begin);
    }
  }
  if (streams) finish_streaming();
}

}  // namespace cpu
}  // namespace fastrl
