// Work on rows by teams: a vector unit of the CPU, or a warp of a GPU. A body is written once, for both.
//
//   Backend::for_each_team(body, units, operations, device)    body(team, unit) for every unit, in any order
//
// A team has kLanes lanes and holds a number in each of them as a Vector. A row is cut into `team.chunks` chunks of kLanes elements. Rows
// to be met are listed by number, and taken in tiles of kLanes:
//   team.list(source, id)       the numbers source.number(place) of those places below source.size where source.present(place). `id` tells
//                               lists apart: asked twice in a row for the same one, a team may remember it
//   list.tiles(), list.tile(t)  tile.has(j): is there a row j; tile.end(): none from there on; tile.any()
//   team.hold(slot, rows, n)    row n, zeros behind its end, to be read chunk by chunk; `slot` tells apart what is held at the same time
//   team.put(rows, n, c, x)     x becomes chunk c of row n, as far as the row goes
//   team.take(slot, rows, tile) the rows of a tile, likewise
//   team.dots(held, taken, tile)  lane j: the product of the held row and the tile's row j, if there is one
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
  bool far = false;  // not in cache, probably: rows are worth being asked for ahead of their use

  FASTRL_HD T* row(int64_t n) const { return data + n * stride; }
};

// A [N, H, K] tensor.
template <class T>
struct Heads {
  T* data;
  int64_t stride, head_stride, inner, size;

  FASTRL_HD Rows<T> head(int64_t h) const { return {data + h * head_stride, stride, inner, size}; }
};

}  // namespace fastrl
