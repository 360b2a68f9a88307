// A bitmap that knows at once how many of its bits are set up to any place, and where the n-th set one is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/cpu_level.h"

namespace fastrl {

class RankedBits {
 public:
  explicit RankedBits(int64_t size) : size_(size), words_(padded((size + 63) / 64), 0) {
    for (size_t below = words_.size(); below > kFan || counts_.empty(); below = counts_.back().size())
      counts_.emplace_back(padded(static_cast<int64_t>(below) / kFan), 0);
  }

  int64_t size() const { return size_; }
  int64_t total() const { return total_; }
  bool get(int64_t bit) const { return words_[static_cast<size_t>(bit >> 6)] >> (bit & 63) & 1; }

  // Set bits [first, first + count) to flag(0), flag(1), ...
  template <class Flag>
  void assign(int64_t first, int64_t count, const Flag& flag) {
    for (int64_t done = 0; done < count;) {
      const int64_t bit = first + done, offset = bit & 63;
      const int64_t width = count - done < 64 - offset ? count - done : 64 - offset;
      uint64_t bits = 0;
      for (int64_t i = 0; i < width; ++i) bits |= static_cast<uint64_t>(flag(done + i) ? 1 : 0) << (offset + i);
      replace(bit >> 6, (width == 64 ? ~uint64_t{0} : ((uint64_t{1} << width) - 1)) << offset, bits);
      done += width;
    }
  }

  // Set bits before `bit`, in [0, size].
  int64_t rank(int64_t bit) const {
    if (bit >= size_) return total_;
    int64_t place = bit >> 6;
    int64_t before = count_ones(words_[static_cast<size_t>(place)] & ((uint64_t{1} << (bit & 63)) - 1));
    for (int64_t i = place / kFan * kFan; i < place; ++i) before += count_ones(words_[static_cast<size_t>(i)]);
    for (const std::vector<int64_t>& level : counts_) {
      place /= kFan;
      for (int64_t i = place / kFan * kFan; i < place; ++i) before += level[static_cast<size_t>(i)];
    }
    return before;
  }

  // The place of the set bit that has `number` before it, in [0, total). Takes as long wherever that is: no branch waits for a guess.
  inline FASTRL_INLINE int64_t select(int64_t number) const {
    int64_t place = 0;
    for (size_t level = counts_.size(); level-- > 0;) {
      const int64_t* count = counts_[level].data() + place * kFan;
      place = place * kFan + pass([count](int64_t i) FASTRL_INLINE { return count[i]; }, &number);
    }
    const uint64_t* word = words_.data() + place * kFan;
    place = place * kFan + pass([word](int64_t i) FASTRL_INLINE { return count_ones(word[i]); }, &number);
    return place * 64 + select_in_word(words_[static_cast<size_t>(place)], number);
  }

  // 8 bits a byte, the first lowest
  int64_t num_bytes() const { return (size_ + 7) / 8; }
  uint8_t byte(int64_t index) const { return static_cast<uint8_t>(words_[static_cast<size_t>(index >> 3)] >> (8 * (index & 7))); }

 private:
  static constexpr int64_t kFan = 8;  // counts that fill a cache line

  static size_t padded(int64_t size) { return static_cast<size_t>((size + kFan - 1) / kFan * kFan); }

  // one instruction where the processor has it and the caller is compiled for it
  static inline FASTRL_INLINE int64_t count_ones(uint64_t word) {
#if defined(__GNUC__)
    return __builtin_popcountll(word);
#else
    word -= word >> 1 & 0x5555555555555555;
    word = (word & 0x3333333333333333) + (word >> 2 & 0x3333333333333333);
    return static_cast<int64_t>(((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0f) * 0x0101010101010101 >> 56);
#endif
  }

  // How many of kFan counts lie before the set bit `number`, which becomes its number among the bits of the next one.
  template <class Count>
  static inline FASTRL_INLINE int64_t pass(const Count& count, int64_t* number) {
    int64_t sum = 0, passed = 0, before = 0;
    for (int64_t i = 0; i < kFan; ++i) {
      sum += count(i);
      const bool passes = sum <= *number;
      passed += passes;
      before = passes ? sum : before;
    }
    *number -= before;
    return passed;
  }

  static inline FASTRL_INLINE int64_t select_in_word(uint64_t word, int64_t number) {
    int64_t place = 0;
    for (int64_t width = 32; width > 0; width /= 2) {
      const int64_t lower = count_ones(word & ((uint64_t{1} << width) - 1));
      const bool above = number >= lower;
      number -= above ? lower : 0;
      word >>= above ? width : 0;
      place += above ? width : 0;
    }
    return place;
  }

  void replace(int64_t word, uint64_t mask, uint64_t bits) {
    uint64_t& stored = words_[static_cast<size_t>(word)];
    const int64_t change = count_ones(bits) - count_ones(stored & mask);
    stored = (stored & ~mask) | bits;
    if (change == 0) return;
    total_ += change;
    for (std::vector<int64_t>& level : counts_) level[static_cast<size_t>(word /= kFan)] += change;
  }

  int64_t size_, total_ = 0;
  std::vector<uint64_t> words_;
  std::vector<std::vector<int64_t>> counts_;  // of kFan words each, then of kFan such counts each, until there are kFan
};

}  // namespace fastrl
