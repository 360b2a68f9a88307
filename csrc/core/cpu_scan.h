// The reverse scan on one thread: loops that compilers turn into vector instructions, written once for every op.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__unix__)
#include <unistd.h>
#endif

#include "core/cpu_level.h"
#include "core/recurrence.h"

namespace fastrl::cpu {

constexpr int64_t kLanes = 16;    // elements that one step of the scan handles side by side
constexpr int64_t kPanel = 4096;  // columns whose carry stays in the first-level cache
constexpr int64_t kTile = 2048;   // elements of a narrow op that are scanned at once, in the first-level cache
constexpr int64_t kChunk = 64;    // elements of a row that are worked on, and sent past the caches, at once
constexpr int64_t kAhead = 8192;  // elements between what is being read and what is being fetched

// Outputs that the last-level cache cannot hold are written past it: fetching lines only to overwrite them would cost half as much traffic
// again.
inline bool outgrows_cache(int64_t bytes) { return bytes >= (int64_t{12} << 20); }

// Copies past the caches where the processor can; `finish_streaming` makes the stores visible to other threads.
FASTRL_HD void stream_copy(void* to, const void* from, int64_t bytes) {
#if defined(__SSE2__)
  char* target = static_cast<char*>(to);
  const char* source = static_cast<const char*>(from);
  const int64_t head = std::min<int64_t>(bytes, static_cast<int64_t>(-reinterpret_cast<uintptr_t>(target) & 15));
  std::memcpy(target, source, static_cast<size_t>(head));
  int64_t done = head;
  for (; done + 16 <= bytes; done += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(target + done), _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + done)));
  std::memcpy(target + done, source + done, static_cast<size_t>(bytes - done));
#else
  std::memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

FASTRL_HD void finish_streaming() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

// `count` columns of one row, from `first`.
template <class Row, class Acc, class T, int kOutputs>
FASTRL_HD void scan_row(const Row& row, int64_t first, int64_t count, Acc* carry, T* const (&out)[kOutputs]) {
  FASTRL_IVDEP
  for (int64_t k = 0; k < count; ++k) {
    const Acc next = carry[k];
    carry[k] = row.step(first + k)(next);
    const Results<T, kOutputs> results = row.results(first + k, carry[k], next);
    for (int i = 0; i < kOutputs; ++i) out[i][k] = results.value[i];
  }
}

// How many columns to do at once when `left` of `width` are to be done: a row costs about the same for 16 columns as for 64. A piece wider
// than what is left starts earlier, and does what overlaps a second time, with carries of its own: full vectors beat single columns.
inline int64_t widest_piece(int64_t width, int64_t left) {
  int64_t piece = kLanes;
  while (piece < kChunk && piece < left && 2 * piece <= width) piece *= 2;
  return width >= kLanes ? piece : 1;
}

// kWidth columns from `first` on, from the last row to the first; so few that compilers keep the carries in registers.
template <class Op, bool kMasked, int64_t kWidth>
FASTRL_HD void scan_piece(const Op& op, int64_t first) {
  alignas(64) typename Op::Acc carry[kWidth];
  for (int64_t k = 0; k < kWidth; ++k) carry[k] = op.start(first + k);
  for (int64_t t = op.num_steps - 1; t >= 0; --t) {
    typename Op::Element* out[Op::kOutputs];
    for (int i = 0; i < Op::kOutputs; ++i) out[i] = op.outputs[i].row(t) + first;
    scan_row(op.template row<true, kMasked>(t, first), 0, kWidth, carry, out);
  }
}

// Columns [begin, begin + width) of unit stride, between kLanes and kChunk: one piece after the other, each through all rows.
template <class Op, bool kMasked>
FASTRL_HD void scan_pieces(const Op& op, int64_t begin, int64_t width) {
  for (int64_t k = 0; k < width;) {
    const int64_t piece = widest_piece(width, width - k);
    const int64_t first = begin + std::min(k, width - piece);
    if (piece == kChunk)
      scan_piece<Op, kMasked, kChunk>(op, first);
    else if (piece == 2 * kLanes)
      scan_piece<Op, kMasked, 2 * kLanes>(op, first);
    else
      scan_piece<Op, kMasked, kLanes>(op, first);
    k += piece;
  }
}

// Columns [first, last), row by row from the last: memory is read in order, and the row of carries stays in cache.
template <class Op, bool kUnitStride, bool kMasked, bool kStream>
FASTRL_HD void scan_wide(const Op& op, int64_t first, int64_t last) {
  using T = typename Op::Element;
  using Acc = typename Op::Acc;
  constexpr int kOutputs = Op::kOutputs;
  alignas(64) Acc carry[kPanel + kChunk];
  alignas(64) T stage[kStream ? kOutputs : 1][kStream ? kChunk : 1];
  for (int64_t begin = first; begin < last; begin += kPanel) {
    const int64_t width = std::min(kPanel, last - begin);
    const int64_t rows_ahead = (kAhead + width - 1) / width;
    const int64_t bulk = width / kChunk * kChunk;
    if constexpr (kUnitStride && !kStream) {
      if (width >= kLanes && width <= kChunk) {
        scan_pieces<Op, kMasked>(op, begin, width);
        continue;
      }
    }
    const int64_t piece = widest_piece(width, width - bulk);
    for (int64_t k = 0; k < bulk; ++k) carry[k] = op.start(begin + k);
    // what is left over has carries of its own, behind those of the bulk
    for (int64_t k = bulk; k < width; k += piece) {
      const int64_t start = std::min(k, width - piece);
      for (int64_t i = 0; i < piece; ++i) carry[k + i] = op.start(begin + start + i);
    }
    for (int64_t t = op.num_steps - 1; t >= 0; --t) {
      const auto row = op.template row<kUnitStride, kMasked>(t, begin);
      T* out[kOutputs];
      if constexpr (kStream) {
        for (int64_t k = 0; k < bulk; k += kChunk) {
          op.template row<kUnitStride, kMasked>(std::max<int64_t>(0, t - rows_ahead), begin).prefetch(k, kChunk);
          for (int i = 0; i < kOutputs; ++i) out[i] = stage[i];
          scan_row(row, k, kChunk, carry + k, out);
          for (int i = 0; i < kOutputs; ++i)
            stream_copy(op.outputs[i].row(t) + begin + k, stage[i], kChunk * static_cast<int64_t>(sizeof(T)));
        }
      } else {
        for (int i = 0; i < kOutputs; ++i) out[i] = op.outputs[i].row(t) + begin;
        scan_row(row, 0, bulk, carry, out);
      }
      for (int64_t k = bulk; k < width; k += piece) {
        const int64_t start = std::min(k, width - piece);
        for (int i = 0; i < kOutputs; ++i) out[i] = op.outputs[i].row(t) + begin + start;
        if (piece == kChunk)
          scan_row(row, start, kChunk, carry + k, out);
        else if (piece == 2 * kLanes)
          scan_row(row, start, 2 * kLanes, carry + k, out);
        else if (piece == kLanes)
          scan_row(row, start, kLanes, carry + k, out);
        else
          scan_row(row, start, 1, carry + k, out);
      }
    }
  }
  if constexpr (kStream) finish_streaming();
}

// Few columns: a row does not fill a vector, and a column is one long chain of dependent multiply-adds. In the flattened tile element i
// depends on element i + N. Composing every element with the one N further on, then 2N, 4N, ... (all elements at once, in order, in
// cache) makes it depend on one at least kLanes further on; then kLanes elements at a time are finished from the end.
template <class Op, bool kContiguous, bool kMasked>
FASTRL_HD void scan_narrow(const Op& op) {
  using T = typename Op::Element;
  using Acc = typename Op::Acc;
  const int64_t width = op.num_envs;  // < kLanes
  const int64_t tile_rows = kTile / width;
  alignas(64) Acc factor[kTile + 2 * kLanes];
  alignas(64) Acc offset[kTile + 2 * kLanes];  // becomes x
  Acc carry[kLanes];
  for (int64_t k = 0; k < width; ++k) carry[k] = op.start(k);
  for (int64_t last = op.num_steps; last > 0; last -= tile_rows) {
    const int64_t first = std::max<int64_t>(0, last - tile_rows);
    const int64_t size = (last - first) * width;
    // behind the tile lie the finished elements of the tile after it, which depend on nothing
    for (int64_t k = 0; k < 2 * kLanes; ++k) {
      factor[size + k] = Acc(0);
      offset[size + k] = k < width ? carry[k] : Acc(0);
    }
    if constexpr (kContiguous) {
      const auto row = op.template row<true, kMasked>(first, 0);
      FASTRL_IVDEP
      for (int64_t i = 0; i < size; ++i) {
        const Affine<Acc> step = row.step(i);
        factor[i] = step.factor;
        offset[i] = step.offset;
      }
    } else {
      for (int64_t t = first; t < last; ++t) {
        const auto row = op.template row<false, kMasked>(t, 0);
        for (int64_t n = 0; n < width; ++n) {
          const Affine<Acc> step = row.step(n);
          factor[(t - first) * width + n] = step.factor;
          offset[(t - first) * width + n] = step.offset;
        }
      }
    }
    int64_t distance = width;
    for (; distance < kLanes; distance *= 2) {
      FASTRL_IVDEP
      for (int64_t i = 0; i < size; ++i) {  // in order: element i + distance has not been touched yet
        const Affine<Acc> both = compose(Affine<Acc>{factor[i], offset[i]}, Affine<Acc>{factor[i + distance], offset[i + distance]});
        factor[i] = both.factor;
        offset[i] = both.offset;
      }
    }
    int64_t i = size - kLanes;
    for (; i >= 0; i -= kLanes) {
      FASTRL_IVDEP
      for (int64_t k = i; k < i + kLanes; ++k) offset[k] = Affine<Acc>{factor[k], offset[k]}(offset[k + distance]);
    }
    for (int64_t k = i + kLanes - 1; k >= 0; --k) offset[k] = Affine<Acc>{factor[k], offset[k]}(offset[k + distance]);
    for (int64_t k = 0; k < width; ++k) carry[k] = offset[k];

    if constexpr (kContiguous) {
      T* out[Op::kOutputs];
      for (int j = 0; j < Op::kOutputs; ++j) out[j] = op.outputs[j].row(first);
      const auto row = op.template row<true, kMasked>(first, 0);
      FASTRL_IVDEP
      for (int64_t k = 0; k < size; ++k) {
        const auto results = row.results(k, offset[k], offset[k + width]);
        for (int j = 0; j < Op::kOutputs; ++j) out[j][k] = results.value[j];
      }
    } else {
      for (int64_t t = first; t < last; ++t) {
        const auto row = op.template row<false, kMasked>(t, 0);
        for (int64_t n = 0; n < width; ++n) {
          const int64_t k = (t - first) * width + n;
          const auto results = row.results(n, offset[k], offset[k + width]);
          for (int j = 0; j < Op::kOutputs; ++j) *op.outputs[j].at(t, n) = results.value[j];
        }
      }
    }
  }
}

}  // namespace fastrl::cpu
