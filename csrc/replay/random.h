// A generator of random numbers whose state fits into a checkpoint.
#pragma once

#include <array>
#include <cstdint>

namespace fastrl {

// xoshiro256++ of Blackman and Vigna (2019): 256 bits of state, any but all zeros.
class Random {
 public:
  using State = std::array<uint64_t, 4>;

  // Seeds that differ in one bit give unrelated states: each word is a scrambled count (splitmix64).
  explicit Random(uint64_t seed) {
    for (uint64_t& word : state_) {
      uint64_t z = seed += 0x9e3779b97f4a7c15;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      word = z ^ (z >> 31);
    }
  }
  explicit Random(const State& state) : state_(state) {}

  static bool is_state(const State& state) { return (state[0] | state[1] | state[2] | state[3]) != 0; }
  const State& state() const { return state_; }

  uint64_t next() {
    const uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0];
    const uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }

  // Each number in [0, bound) with the same probability (Lemire 2019); bound > 0.
  uint64_t below(uint64_t bound) {
    uint64_t low = 0;
    uint64_t high = multiply(next(), bound, &low);
    if (low < bound) {
      const uint64_t uneven = (0 - bound) % bound;  // so many of the 2^64 numbers are one too many
      while (low < uneven) high = multiply(next(), bound, &low);
    }
    return high;
  }

 private:
  static uint64_t rotate(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

  // the upper 64 bits of the product, the lower ones in `low`
  static uint64_t multiply(uint64_t a, uint64_t b, uint64_t* low) {
    const uint64_t a_low = a & 0xffffffff, a_high = a >> 32, b_low = b & 0xffffffff, b_high = b >> 32;
    const uint64_t middle = a_high * b_low + (a_low * b_low >> 32), cross = a_low * b_high + (middle & 0xffffffff);
    *low = a * b;
    return a_high * b_high + (middle >> 32) + (cross >> 32);
  }

  State state_{};
};

}  // namespace fastrl
