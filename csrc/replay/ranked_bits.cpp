#include "replay/ranked_bits.h"

namespace fastrl {
namespace {

constexpr int64_t kFan = 64;

int64_t count_ones(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555;
  word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
  word = (word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<int64_t>(word * 0x0101010101010101 >> 56);
}

// The place of the set bit that has `number` before it.
int64_t select_in_word(uint64_t word, int64_t number) {
  int64_t place = 0;
  for (int64_t width = 32; width > 0; width /= 2) {
    const int64_t lower = count_ones(word & ((uint64_t{1} << width) - 1));
    if (number >= lower) {
      number -= lower;
      word >>= width;
      place += width;
    }
  }
  return place;
}

}  // namespace

RankedBits::RankedBits(int64_t size) : size_(size), words_(static_cast<size_t>((size + 63) / 64), 0) {
  for (size_t below = words_.size(); below > kFan || counts_.empty(); below = counts_.back().size())
    counts_.emplace_back((below + kFan - 1) / kFan, 0);
}

void RankedBits::replace(int64_t word, uint64_t mask, uint64_t bits) {
  uint64_t& stored = words_[static_cast<size_t>(word)];
  const int64_t change = count_ones(bits) - count_ones(stored & mask);
  stored = (stored & ~mask) | bits;
  if (change == 0) return;
  total_ += change;
  for (std::vector<int64_t>& level : counts_) level[static_cast<size_t>(word /= kFan)] += change;
}

int64_t RankedBits::rank(int64_t bit) const {
  if (bit >= size_) return total_;
  const int64_t word = bit >> 6;
  int64_t before = count_ones(words_[static_cast<size_t>(word)] & ((uint64_t{1} << (bit & 63)) - 1));
  for (int64_t i = word / kFan * kFan; i < word; ++i) before += count_ones(words_[static_cast<size_t>(i)]);
  int64_t group = word / kFan;
  for (size_t level = 0; level < counts_.size(); ++level, group /= kFan) {
    const bool top = level + 1 == counts_.size();
    for (int64_t i = top ? 0 : group / kFan * kFan; i < group; ++i) before += counts_[level][static_cast<size_t>(i)];
  }
  return before;
}

int64_t RankedBits::select(int64_t number) const {
  int64_t group = 0;
  for (size_t level = counts_.size(); level-- > 0;) {
    group *= kFan;
    while (number >= counts_[level][static_cast<size_t>(group)]) number -= counts_[level][static_cast<size_t>(group++)];
  }
  int64_t word = group * kFan;
  for (int64_t ones; number >= (ones = count_ones(words_[static_cast<size_t>(word)])); ++word) number -= ones;
  return word * 64 + select_in_word(words_[static_cast<size_t>(word)], number);
}

}  // namespace fastrl
