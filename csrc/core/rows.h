// Rows that are put together from elsewhere. An op says where each row comes from; how rows are shared out, copied and written past the
// caches is the backend's business.
//
//   Backend::gather_rows(op)    op.rows, op.row_bytes, op.out (contiguous); rows come in lists of op.length (a Divisor), and op.list(i) is
//                               where those of list i lie, a RowList; op.alignment(): what divides every address and size
//   Backend::for_each_row(op)   op.rows, op.columns, op.out (contiguous), op.at(r): whatever finds row r's elements, looked up once a row,
//                               op.compute(at, first, last, to): elements [first, last) of that row into to[0 ...],
//                               op.begin(at): where compute begins to read, or nullptr; a CPU asks for it beforehand
#pragma once

#include "core/divisor.h"
#include "core/host_device.h"
#include "core/tensor.h"

namespace fastrl {

// Rows at indexed places of a table, each in one piece.
struct RowList {
  const char* table;
  int64_t row_bytes;  // from one row of the table to the next
  const int64_t* index;
  int64_t index_stride;
  const uint8_t* mask;  // nullptr: all count
  int64_t mask_stride;

  FASTRL_HD bool has(int64_t w) const { return mask == nullptr || mask[w * mask_stride] != 0; }
  FASTRL_HD const char* place(int64_t w) const { return table + index[w * index_stride] * row_bytes; }
  // nullptr for a row of zeros
  FASTRL_HD const char* source(int64_t w) const { return has(w) ? place(w) : nullptr; }
};

// Calls body(TypeTag<Unit>) for the widest unit that all addresses and sizes are multiples of; `Widest` has 16 bytes.
template <class Widest, class Body>
void for_unit(uint64_t alignment, const Body& body) {
  static_assert(sizeof(Widest) == 16);
  if (alignment % 16 == 0)
    body(TypeTag<Widest>{});
  else if (alignment % 8 == 0)
    body(TypeTag<uint64_t>{});
  else if (alignment % 4 == 0)
    body(TypeTag<uint32_t>{});
  else if (alignment % 2 == 0)
    body(TypeTag<uint16_t>{});
  else
    body(TypeTag<uint8_t>{});
}

// A row as GPU threads copy it: `Unit`s of as many bytes as sizes and addresses allow.
template <class Unit, class Op>
struct UnitRows {
  using Element = Unit;
  Op op;
  int64_t rows, columns;
  Unit* out;

  explicit UnitRows(const Op& rows_op)
      : op(rows_op),
        rows(op.rows),
        columns(op.row_bytes / static_cast<int64_t>(sizeof(Unit))),
        out(static_cast<Unit*>(static_cast<void*>(op.out))) {}

  FASTRL_HD const Unit* at(int64_t r) const {
    const auto [list, w] = op.length.split(r);
    return static_cast<const Unit*>(static_cast<const void*>(op.list(list).source(w)));
  }
  FASTRL_HD void compute(const Unit* source, int64_t first, int64_t last, Unit* to) const {
    for (int64_t i = first; i < last; ++i) to[i - first] = source == nullptr ? Unit{} : source[i];
  }
};

}  // namespace fastrl
