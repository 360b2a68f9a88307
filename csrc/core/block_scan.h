// The reverse scan by a block of GPU threads, chunked in time. Written for both sides, so that tests can run it without a GPU.
#pragma once

#include "core/recurrence.h"

namespace fastrl {

constexpr int kChunkSteps = 8;      // consecutive steps that one thread holds in registers
constexpr int kBlockThreads = 512;  // most threads of a block

// A block does `columns` neighbouring columns; each is cut into `chunks` pieces of kChunkSteps steps, a thread each. Both are powers of
// two.
struct BlockShape {
  int columns;
  int chunks;

  FASTRL_HD int threads() const { return columns * chunks; }
  FASTRL_HD int64_t tile_steps() const { return int64_t{chunks} * kChunkSteps; }
};

inline int next_power_of_two(int64_t least, int most) {
  int power = 1;
  while (power < least && power < most) power *= 2;
  return power;
}

// As few chunks in time as fill a GPU of `resident_threads`, for every chunk costs communication; as many as that takes when columns are
// few.
inline BlockShape choose_block(int64_t num_steps, int64_t num_envs, int64_t resident_threads) {
  BlockShape shape{next_power_of_two(num_envs, 32), 1};
  const int64_t pieces = (num_steps + kChunkSteps - 1) / kChunkSteps;
  const int64_t wanted = (resident_threads + num_envs - 1) / num_envs;
  const int most = kBlockThreads / shape.columns;
  shape.chunks = next_power_of_two(wanted < 4 ? 4 : wanted, most);
  if (shape.chunks > pieces) shape.chunks = next_power_of_two(pieces, most);
  shape.columns = next_power_of_two(num_envs, shape.threads() < 128 ? 128 / shape.chunks : shape.columns);
  return shape;
}

template <class Acc>
struct ThreadSteps {
  Affine<Acc> step[kChunkSteps];  // the last step of the chunk first, as the recurrence runs
  Affine<Acc> partner;
};

// Tiles of time from the last to the first. In each: every thread composes its steps into one; an inclusive scan over the chunks composes
// each with all later ones; then every thread knows what enters its chunk and finishes its steps.
// `threads.each(body)` runs body(thread, steps) for every thread of the block and ends with a barrier. `shared` holds an Affine a thread,
// `carry` one number a column.
template <class Op, bool kMasked, class Threads>
FASTRL_HD void block_scan(
    const Op& op, BlockShape shape, int64_t first_column, Threads& threads, Affine<typename Op::Acc>* shared, typename Op::Acc* carry) {
  using Acc = typename Op::Acc;
  using Steps = ThreadSteps<Acc>;
  const auto row_at = [&](int64_t t) { return op.template row<false, kMasked>(t, first_column); };
  const auto last_step = [&](int thread, int64_t tile_end) { return tile_end - 1 - int64_t{thread / shape.columns} * kChunkSteps; };

  threads.each([&](int thread, Steps&) {
    if (thread < shape.columns) carry[thread] = first_column + thread < op.num_envs ? op.start(first_column + thread) : Acc(0);
  });
  for (int64_t tile_end = op.num_steps; tile_end > 0; tile_end -= shape.tile_steps()) {
    threads.each([&](int thread, Steps& mine) {
      const int64_t last = last_step(thread, tile_end), n = thread % shape.columns;
      const bool inside = first_column + n < op.num_envs;
      Affine<Acc> chunk{Acc(1), Acc(0)};
      FASTRL_UNROLL
      for (int i = 0; i < kChunkSteps; ++i) {
        mine.step[i] = inside && last >= i ? row_at(last - i).step(n) : Affine<Acc>{Acc(1), Acc(0)};
        chunk = compose(mine.step[i], chunk);
      }
      shared[thread] = chunk;
    });
    for (int distance = shape.columns; distance < shape.threads(); distance *= 2) {
      threads.each(
          [&](int thread, Steps& mine) { mine.partner = thread >= distance ? shared[thread - distance] : Affine<Acc>{Acc(1), Acc(0)}; });
      threads.each([&](int thread, Steps& mine) { shared[thread] = compose(shared[thread], mine.partner); });
    }
    threads.each([&](int thread, Steps& mine) {
      const int64_t last = last_step(thread, tile_end), n = thread % shape.columns;
      if (first_column + n >= op.num_envs) return;
      Acc x = carry[n];
      if (thread >= shape.columns) x = shared[thread - shape.columns](x);
      FASTRL_UNROLL
      for (int i = 0; i < kChunkSteps; ++i) {
        if (last < i) break;
        const Acc next = x;
        x = mine.step[i](next);
        const auto results = row_at(last - i).results(n, x, next);
        for (int j = 0; j < Op::kOutputs; ++j) *op.outputs[j].at(last - i, first_column + n) = results.value[j];
      }
    });
    threads.each([&](int thread, Steps&) {
      if (thread < shape.columns) carry[thread] = shared[shape.threads() - shape.columns + thread](carry[thread]);
    });
  }
}

}  // namespace fastrl
