// Sixteen numbers side by side, in whatever vector registers a processor has. The same additions in the same order for every width of
// register: the bits do not depend on it.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/cpu_level.h"
#include "core/exp.h"

namespace fastrl::cpu {

// One register of kWidth numbers. Plain operators work on it, and a comparison gives whole numbers as wide: -1 for true.
template <class T, int kWidth>
struct Register {
#if defined(__GNUC__)
  typedef T Type __attribute__((vector_size(kWidth * sizeof(T))));
#else
#error "fastrl is built with GCC or Clang: it needs their vectors"
#endif
};

template <class T>
using WholeNumber = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;

// Puts into `picked` what lies at `places` of a and b, b's numbers counted on from a's.
template <int kWidth, class Part, class Places>
FASTRL_HD void pick_places(const Part& a, const Part& b, const Places& places, Part& picked) {
#if defined(__clang__)
  for (int i = 0; i < kWidth; ++i) picked[i] = places[i] < kWidth ? a[places[i]] : b[places[i] - kWidth];
#else
  picked = __builtin_shuffle(a, b, places);
#endif
}

template <class T, int kRegisterBytes>
struct Lanes {
  static constexpr int kCount = 16, kWidth = kRegisterBytes / static_cast<int>(sizeof(T)), kParts = kCount / kWidth;
  using Part = typename Register<T, kWidth>::Type;
  using Places = typename Register<WholeNumber<T>, kWidth>::Type;

  Part part[kParts];

  FASTRL_HD static Lanes all(T x) {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) lanes.part[i] = x - Part{};
    return lanes;
  }

  FASTRL_HD static Lanes load(const T* from) {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) memcpy(&lanes.part[i], from + i * kWidth, sizeof(Part));
    return lanes;
  }

  FASTRL_HD void store(T* to) const {
    for (int i = 0; i < kParts; ++i) memcpy(to + i * kWidth, &part[i], sizeof(Part));
  }

  FASTRL_HD Lanes& operator+=(const Lanes& other) {
    for (int i = 0; i < kParts; ++i) part[i] += other.part[i];
    return *this;
  }
  FASTRL_HD Lanes operator*(const Lanes& other) const {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) lanes.part[i] = part[i] * other.part[i];
    return lanes;
  }
  FASTRL_HD Lanes operator-(const Lanes& other) const {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) lanes.part[i] = part[i] - other.part[i];
    return lanes;
  }

  // the larger of two, lane by lane; this one where they do not compare
  FASTRL_HD Lanes larger(const Lanes& other) const {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) lanes.part[i] = other.part[i] > part[i] ? other.part[i] : part[i];
    return lanes;
  }

  // the first `count` lanes, and `other` in the rest
  FASTRL_HD Lanes first(int count, T other) const {
    Lanes lanes;
    for (int i = 0; i < kParts; ++i) {
      Places place;
      for (int k = 0; k < kWidth; ++k) place[k] = i * kWidth + k;
      lanes.part[i] = place < static_cast<WholeNumber<T>>(count) ? part[i] : other - Part{};
    }
    return lanes;
  }

  // f(x) lane by lane; f must be plain arithmetic
  template <class F>
  FASTRL_HD Lanes map(const F& f) const {
    alignas(64) T x[kCount];
    store(x);
    FASTRL_IVDEP
    for (int i = 0; i < kCount; ++i) x[i] = f(x[i]);
    return load(x);
  }

  FASTRL_HD Lanes exp() const { return map(FastExp{}); }

  FASTRL_HD T sum() const {
    return fold_all([](const Part& a, const Part& b, Part& c) FASTRL_INLINE { c = a + b; });
  }

  FASTRL_HD T largest() const {
    return fold_all([](const Part& a, const Part& b, Part& c) FASTRL_INLINE { c = b > a ? b : a; });
  }

  // Lane j becomes the sum of all lanes of lanes[j], each added up as `sum` does it: lanes that are 8 apart, then 4, 2, 1. As many
  // additions as one sum of each would take for two of them. Overwrites its argument.
  FASTRL_HD static Lanes sum_each(Lanes (&lanes)[kCount]) {
    Lanes sums;
    Part folded[kCount];
    for (int j = 0; j < kCount; ++j) {
      for (int distance = kParts / 2; distance > 0; distance /= 2)
        for (int i = 0; i < distance; ++i) lanes[j].part[i] += lanes[j].part[i + distance];
      folded[j] = lanes[j].part[0];
    }
    for (int i = 0; i < kParts; ++i) {
      fold<kWidth / 2>(folded + i * kWidth);
      sums.part[i] = folded[i * kWidth];
    }
    return sums;
  }

 private:
  // Of 2 kDistance registers, in which sums of groups of 2 kDistance lanes are wanted, makes kDistance registers in which sums of
  // kDistance lanes are.
  template <int kDistance>
  FASTRL_HD static void fold(Part* registers) {
    if constexpr (kDistance > 0) {
      Places low, high;
      for (int i = 0; i < kWidth; ++i) {
        const int group = i / kDistance, from = group % 2 * kWidth + group / 2 * 2 * kDistance + i % kDistance;
        low[i] = from;
        high[i] = from + kDistance;
      }
      for (int j = 0; j < kDistance; ++j) {
        Part lower, upper;
        pick_places<kWidth>(registers[j], registers[j + kDistance], low, lower);
        pick_places<kWidth>(registers[j], registers[j + kDistance], high, upper);
        registers[j] = lower + upper;
      }
      fold<kDistance / 2>(registers);
    }
  }

  // Combines lanes that are 8 apart, then 4, 2, 1.
  template <class Combine>
  FASTRL_HD T fold_all(const Combine& combine) const {
    Part folded[kParts];
    for (int i = 0; i < kParts; ++i) folded[i] = part[i];
    for (int distance = kParts / 2; distance > 0; distance /= 2)
      for (int i = 0; i < distance; ++i) combine(folded[i], folded[i + distance], folded[i]);
    fold_register<kWidth / 2>(folded[0], combine);
    return folded[0][0];
  }

  template <int kDistance, class Combine>
  FASTRL_HD static void fold_register(Part& folded, const Combine& combine) {
    if constexpr (kDistance > 0) {
      Places places;
      for (int i = 0; i < kWidth; ++i) places[i] = i ^ kDistance;
      Part other;
      pick_places<kWidth>(folded, folded, places, other);
      combine(folded, other, folded);
      fold_register<kDistance / 2>(folded, combine);
    }
  }
};

}  // namespace fastrl::cpu
