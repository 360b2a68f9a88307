// Copies of few bytes, many times: a call of memcpy takes longer than what it copies.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/cpu_level.h"

namespace fastrl::cpu {

// kHalf to 2 kHalf bytes: two moves, which overlap where they are too long.
template <int64_t kHalf>
struct HalvesCopy {
  int64_t second;

  inline FASTRL_INLINE void operator()(char* to, const char* from) const {
    std::memcpy(to, from, kHalf);
    std::memcpy(to + second, from + second, kHalf);
  }
};

// 64 bytes or more.
struct LinesCopy {
  int64_t bytes;

  inline FASTRL_INLINE void operator()(char* to, const char* from) const {
    for (int64_t done = 0; done < bytes - 64; done += 64) std::memcpy(to + done, from + done, 64);
    std::memcpy(to + bytes - 64, from + bytes - 64, 64);
  }
};

// Calls use(copy), where copy(to, from) moves `bytes` bytes, at least one. The size is decided upon once, outside of the loop in `use`.
template <class Use>
inline FASTRL_INLINE void with_copy_of(int64_t bytes, const Use& use) {
  if (bytes > 64)
    use(LinesCopy{bytes});
  else if (bytes > 32)
    use(HalvesCopy<32>{bytes - 32});
  else if (bytes > 16)
    use(HalvesCopy<16>{bytes - 16});
  else if (bytes > 8)
    use(HalvesCopy<8>{bytes - 8});
  else if (bytes > 4)
    use(HalvesCopy<4>{bytes - 4});
  else if (bytes > 1)
    use(HalvesCopy<2>{bytes - 2});
  else
    use(HalvesCopy<1>{0});
}

}  // namespace fastrl::cpu
