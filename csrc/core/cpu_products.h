// Products of small matrices: sums in registers, which the library's other loops would write out and read again, and no call whose fixed
// cost is a multiple of the work. The order of the additions depends on the sizes alone.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/lanes.h"

namespace fastrl::cpu {

constexpr int64_t kProductLanes = 16;

inline int64_t whole_lanes(int64_t columns) { return (columns + kProductLanes - 1) / kProductLanes * kProductLanes; }

// A matrix in two strides, read element by element.
template <class T>
struct Factor {
  const T* data;
  int64_t row_stride, column_stride;
};

// sums = start + a · b. `b` has whole_lanes(columns) columns, those beyond `columns` of any content; `start` points at a row of as many,
// which every row of the result starts from, or is null: then the result is added to what `sums` holds.
template <class T, int kRegisterBytes>
struct Product {
  using Vector = Lanes<T, kRegisterBytes>;
  // as many sums as fit the registers: 32 of 64 bytes, else 16
  static constexpr int kParts = Vector::kParts;
  static constexpr int kVectors = kParts == 1 ? 2 : 1;
  static constexpr int kRows = kRegisterBytes == 64 ? 8 : (kParts == 2 ? 4 : (kParts == 4 ? 2 : 1));

  Factor<T> a;
  const T* b;
  int64_t b_stride;
  const T* start;
  T* sums;
  int64_t sums_stride;
  int64_t rows, columns, inner;

  FASTRL_HD void run() const {
    int64_t column = 0;
    for (; column + (kVectors - 1) * kProductLanes < columns; column += kVectors * kProductLanes) run_columns<kVectors>(column);
    if constexpr (kVectors > 1)
      if (column < columns) run_columns<1>(column);
  }

 private:
  template <int kAcross>
  FASTRL_HD void run_columns(int64_t column) const {
    int64_t row = 0;
    for (; row + kRows <= rows; row += kRows) tile<kRows, kAcross>(row, column);
    if constexpr (kRows > 4)
      for (; row + 4 <= rows; row += 4) tile<4, kAcross>(row, column);
    for (; row < rows; ++row) tile<1, kAcross>(row, column);
  }

  template <int kDown, int kAcross>
  FASTRL_HD void tile(int64_t row, int64_t column) const {
    Vector sum[kDown][kAcross];
    for (int r = 0; r < kDown; ++r)
      for (int v = 0; v < kAcross; ++v) {
        const int64_t at = column + v * kProductLanes;
        sum[r][v] = start != nullptr ? Vector::load(start + at) : read(sums + (row + r) * sums_stride + at, columns - at);
      }
    const T* from = a.data + row * a.row_stride;
    const T* across = b + column;
    for (int64_t k = 0; k < inner; ++k) {
      Vector factor[kAcross];
      for (int v = 0; v < kAcross; ++v) factor[v] = Vector::load(across + v * kProductLanes);
      for (int r = 0; r < kDown; ++r) {
        const Vector x = Vector::all(from[r * a.row_stride]);
        for (int v = 0; v < kAcross; ++v) sum[r][v] += x * factor[v];
      }
      from += a.column_stride;
      across += b_stride;
    }
    for (int r = 0; r < kDown; ++r)
      for (int v = 0; v < kAcross; ++v) {
        const int64_t at = column + v * kProductLanes;
        write(sum[r][v], sums + (row + r) * sums_stride + at, columns - at);
      }
  }

  FASTRL_HD static Vector read(const T* from, int64_t count) {
    if (count >= kProductLanes) return Vector::load(from);
    T buffer[kProductLanes] = {};
    memcpy(buffer, from, static_cast<size_t>(count) * sizeof(T));
    return Vector::load(buffer);
  }

  FASTRL_HD static void write(const Vector& lanes, T* to, int64_t count) {
    if (count >= kProductLanes) return lanes.store(to);
    T buffer[kProductLanes];
    lanes.store(buffer);
    memcpy(to, buffer, static_cast<size_t>(count) * sizeof(T));
  }
};

// Rows with columns up to whole lanes; what is beyond a row's end is 0.
template <class T>
FASTRL_HD void pad_rows(const T* from, int64_t from_stride, int64_t rows, int64_t columns, T* to) {
  const int64_t width = whole_lanes(columns);
  for (int64_t r = 0; r < rows; ++r) {
    memcpy(to + r * width, from + r * from_stride, static_cast<size_t>(columns) * sizeof(T));
    for (int64_t c = columns; c < width; ++c) to[r * width + c] = T(0);
  }
}

// `to` [columns, whole_lanes(rows)] is the transpose of `from` [rows, columns], 0 beyond.
template <class T>
FASTRL_HD void transpose_padded(const T* from, int64_t rows, int64_t columns, T* to) {
  const int64_t width = whole_lanes(rows);
  constexpr int64_t kBlock = 16;  // rows whose cache lines are all in use at a time
  for (int64_t first = 0; first < width; first += kBlock)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = first; r < first + kBlock; ++r) to[c * width + r] = r < rows ? from[r * columns + c] : T(0);
}

}  // namespace fastrl::cpu
