// Which rows of a replay ring are stored, which of them are transitions, and where windows may be drawn. Knows nothing of Python or torch.
#pragma once

#include <cstdint>
#include <vector>

#include "replay/random.h"
#include "replay/ranked_bits.h"

namespace fastrl {

// A ring of `capacity` rows of `num_envs` streams each. All sizes are checked by the caller: see binding.cpp.
class SequenceIndex {
 public:
  struct State {
    int64_t rows, write_position;
    Random::State random;
  };

  SequenceIndex(int64_t capacity, int64_t num_envs, uint64_t seed);

  int64_t capacity() const { return capacity_; }
  int64_t num_envs() const { return num_envs_; }
  int64_t rows() const { return rows_; }
  int64_t write_position() const { return write_position_; }
  int64_t transitions() const { return valid_.total(); }

  // Stores a row, over the oldest one if the ring is full; valid(n) says whether stream n has a transition in it. Returns its position.
  template <class Valid>
  int64_t append(const Valid& valid) {
    const int64_t row = write_position_;
    valid_.assign(row * num_envs_, num_envs_, valid);
    write_position_ = row + 1 == capacity_ ? 0 : row + 1;
    if (rows_ < capacity_) ++rows_;
    return row;
  }

  // Windows of `seq_len` stored rows that begin with a transition and do not go on behind the newest row; seq_len >= 1.
  int64_t num_windows(int64_t seq_len) const;

  // Draws windows, each with the same probability; there must be one.
  void sample(int64_t seq_len, int64_t count, int64_t* start, int64_t* env);

  State state() const { return {rows_, write_position_, random_.state()}; }
  const RankedBits& valid() const { return valid_; }

  // What is wrong with a state for this ring, or nullptr if it was taken; nothing has changed if something is wrong. `bytes` is as
  // valid().byte() gives it, `count` of them.
  const char* load(const State& state, const uint8_t* bytes, int64_t count);

 private:
  // the first bits of windows: `bits` of them in ring order from bit `first` on
  struct Candidates {
    int64_t first, bits;
  };

  Candidates candidates(int64_t seq_len) const;
  int64_t transitions_among(const Candidates& candidates) const;
  int64_t draw(const Candidates& rows, int64_t windows, int64_t before);

  int64_t capacity_, num_envs_, rows_ = 0, write_position_ = 0;
  RankedBits valid_;  // row by row
  Random random_;
};

}  // namespace fastrl
