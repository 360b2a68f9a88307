#include "replay/sequence_index.h"

#include <utility>

namespace fastrl {

SequenceIndex::SequenceIndex(int64_t capacity, int64_t num_envs, uint64_t seed)
    : capacity_(capacity), num_envs_(num_envs), valid_(capacity * num_envs), random_(seed) {}

SequenceIndex::Candidates SequenceIndex::candidates(int64_t seq_len) const {
  if (seq_len > rows_) return {0, 0};
  const int64_t oldest = rows_ < capacity_ ? 0 : write_position_;
  return {oldest * num_envs_, (rows_ - seq_len + 1) * num_envs_};
}

int64_t SequenceIndex::transitions_among(const Candidates& candidates) const {
  const int64_t end = candidates.first + candidates.bits, over = end - valid_.size();
  const int64_t before = valid_.rank(candidates.first);
  return over <= 0 ? valid_.rank(end) - before : valid_.total() - before + valid_.rank(over);
}

int64_t SequenceIndex::num_windows(int64_t seq_len) const { return transitions_among(candidates(seq_len)); }

void SequenceIndex::sample(int64_t seq_len, int64_t count, int64_t* start, int64_t* env) {
  const Candidates rows = candidates(seq_len);
  const int64_t windows = transitions_among(rows), before = valid_.rank(rows.first);
  cpu::with_best_instructions([&]() FASTRL_INLINE {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t bit = draw(rows, windows, before);
      start[i] = bit / num_envs_;
      env[i] = bit - start[i] * num_envs_;
    }
  });
}

// Guessing a row and looking whether it is a transition is quickest where many are; where few are, and after guesses that led nowhere, a
// transition is picked by its number. Both give every window the same probability, and the cost has a bound.
inline FASTRL_INLINE int64_t SequenceIndex::draw(const Candidates& rows, int64_t windows, int64_t before) {
  constexpr int kGuesses = 32;
  for (int guess = windows >= rows.bits / 4 ? kGuesses : 0; guess > 0; --guess) {
    int64_t place = rows.first + static_cast<int64_t>(random_.below(static_cast<uint64_t>(rows.bits)));
    if (place >= valid_.size()) place -= valid_.size();
    if (valid_.get(place)) return place;
  }
  const int64_t number = before + static_cast<int64_t>(random_.below(static_cast<uint64_t>(windows)));
  return valid_.select(number < valid_.total() ? number : number - valid_.total());
}

const char* SequenceIndex::load(const State& state, const uint8_t* bytes, int64_t count) {
  if (state.rows < 0 || state.rows > capacity_) return "rows must be in [0, capacity]";
  if (state.write_position < 0 || state.write_position >= capacity_) return "write_position must be in [0, capacity)";
  if (state.rows < capacity_ && state.write_position != state.rows) return "write_position must follow the last row of a ring not yet full";
  if (!Random::is_state(state.random)) return "random must not be all zeros";
  if (count != valid_.num_bytes()) return "valid must have a bit for every stream of every row";
  const int64_t stored = state.rows * num_envs_;  // bits, from the first on: a ring not yet full has not gone round
  const auto bit = [bytes](int64_t i) { return (bytes[i >> 3] >> (i & 7) & 1) != 0; };
  for (int64_t i = stored; i < 8 * count; ++i) {
    if ((i & 7) == 0 && bytes[i >> 3] == 0)
      i += 7;
    else if (bit(i))
      return "valid must not be set on rows that are not stored";
  }
  RankedBits valid(valid_.size());
  valid.assign(0, stored, bit);
  std::swap(valid_, valid);
  rows_ = state.rows;
  write_position_ = state.write_position;
  random_ = Random(state.random);
  return nullptr;
}

}  // namespace fastrl
