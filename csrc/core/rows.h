// Rows that are put together from elsewhere. An op says where each row comes from; how rows are shared out, copied and written past the
// caches is the backend's business.
//
//   Backend::gather_rows(op)    op.rows, op.row_bytes, op.out (contiguous), op.source(r): where row r lies in one piece, nullptr for zeros
//   Backend::for_each_row(op)   op.rows, op.columns, op.out (contiguous), op.at(r): whatever finds row r's elements, looked up once a row,
//                               op.compute(at, first, last, to): elements [first, last) of that row into to[0 ...]
#pragma once

#include "core/host_device.h"

namespace fastrl {

// A row as GPU threads copy it: `Unit`s of as many bytes as sizes and addresses allow.
template <class Unit, class Op>
struct UnitRows {
  using Element = Unit;
  Op op;
  int64_t rows, columns;
  Unit* out;

  FASTRL_HD const Unit* at(int64_t r) const { return static_cast<const Unit*>(static_cast<const void*>(op.source(r))); }
  FASTRL_HD void compute(const Unit* source, int64_t first, int64_t last, Unit* to) const {
    for (int64_t i = first; i < last; ++i) to[i - first] = source == nullptr ? Unit{} : source[i];
  }
};

}  // namespace fastrl
