// A bitmap that knows at once how many of its bits are set up to any place, and where the n-th set one is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastrl {

class RankedBits {
 public:
  explicit RankedBits(int64_t size);

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

  int64_t rank(int64_t bit) const;       // set bits before `bit`, in [0, size]
  int64_t select(int64_t number) const;  // the place of the set bit that has `number` before it, in [0, total)

  // 8 bits a byte, the first lowest
  int64_t num_bytes() const { return (size_ + 7) / 8; }
  uint8_t byte(int64_t index) const { return static_cast<uint8_t>(words_[static_cast<size_t>(index >> 3)] >> (8 * (index & 7))); }

 private:
  void replace(int64_t word, uint64_t mask, uint64_t bits);

  int64_t size_, total_ = 0;
  std::vector<uint64_t> words_;
  std::vector<std::vector<int64_t>> counts_;  // of 64 words each, then of 64 such counts each, until a level has at most 64
};

}  // namespace fastrl
