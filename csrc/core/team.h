// Work on rows by teams: a vector unit of the CPU, or a warp of a GPU. A body is written once, for both.
//
//   Backend::for_each_team(body, units, operations, device)    body(team, unit) for every unit, in any order
//
// A team has kLanes lanes and holds a number in each of them as a Vector. A row is cut into `team.chunks` chunks of kLanes elements. Rows
// to be met are listed by number, and taken in tiles of kLanes:
//   team.list(source, id)       the numbers source.number(place) of those places below source.size where source.present(place). `id` tells
//                               lists apart: asked twice in a row for the same one, a team may remember it
//   list.tiles(), list.tile(t)  tile.has(j): is there a row j; tile.end(): none from there on; tile.any()
//   team.hold(slot, row)        one row, to be multiplied with others; `slot` tells apart what is held at the same time
//   team.take(slot, rows, tile) the rows of a tile, likewise
//   dots(team, held, taken)     lane j: the product of the held row and the tile's row j
//   team.sums(slot, first)      a row to add to, from chunk `first` on, as many chunks as team.panel(): a GPU holds it in registers
//   team.once(f)                f() by one lane
#pragma once

#include "core/exp.h"
#include "core/host_device.h"

namespace fastrl {

// Rows of one head: element k of row n at data[n * stride + k * inner]. `size` elements, any strides.
template <class T>
struct Rows {
  T* data;
  int64_t stride, inner, size;

  FASTRL_HD T* row(int64_t n) const { return data + n * stride; }
};

// A [N, H, K] tensor.
template <class T>
struct Heads {
  T* data;
  int64_t stride, head_stride, inner, size;

  FASTRL_HD Rows<T> head(int64_t h) const { return {data + h * head_stride, stride, inner, size}; }
};

// Lane j is the product of the held row and row j of a tile; of no use where the tile has no row.
template <class Team, class Held, class Taken>
FASTRL_HD typename Team::Vector dots(const Team& team, const Held& held, const Taken& taken) {
  using Vector = typename Team::Vector;
  Vector partial[Team::kLanes];
  FASTRL_UNROLL
  for (int first = 0; first < Team::kLanes; first += Team::kTogether) {
    Vector sum[Team::kTogether];
    typename Taken::Row row[Team::kTogether];
    FASTRL_UNROLL
    for (int i = 0; i < Team::kTogether; ++i) {
      sum[i] = Vector::all(0);
      row[i] = taken.row(first + i);
    }
    for (int64_t c = 0; c < team.chunks; ++c) {
      const Vector x = held.chunk(c);
      FASTRL_UNROLL
      for (int i = 0; i < Team::kTogether; ++i) sum[i] += x * row[i].chunk(c);
    }
    FASTRL_UNROLL
    for (int i = 0; i < Team::kTogether; ++i) partial[first + i] = sum[i];
  }
  return Vector::sum_each(partial);
}

}  // namespace fastrl
