// Long copies, line by line of the cache: each line copied asks for one that will be wanted soon.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "core/host_device.h"

namespace fastrl::cpu {

constexpr int64_t kLine = 64;

// A whole line past the caches, all of it read before any of it is written: while a write waits for a read that takes its time, the line is
// held open, and lines held open for long are written in pieces.
FASTRL_HD void stream_line(char* to, const char* from) {
#if defined(__SSE2__)
  const auto* source = reinterpret_cast<const __m128i*>(from);
  auto* target = reinterpret_cast<__m128i*>(to);
  const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
  const __m128i c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
  _mm_stream_si128(target, a);
  _mm_stream_si128(target + 1, b);
  _mm_stream_si128(target + 2, c);
  _mm_stream_si128(target + 3, d);
#else
  std::memcpy(to, from, kLine);
#endif
}

// Part of a line past the caches, in whole words. A line that is written past the caches in part and into them in part costs more than
// both: rows that end within a line, as most do, must be written past them to their last byte.
FASTRL_HD void stream_words(char* to, const char* from, int64_t bytes) {
#if defined(__SSE2__)
  for (int64_t done = 0; done < bytes; done += 4) {
    int word;
    std::memcpy(&word, from + done, 4);
    _mm_stream_si32(reinterpret_cast<int*>(to + done), word);
  }
#else
  std::memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

// Whether a target begins and ends at whole words, as stream_words wants it.
inline bool whole_words(const void* target, int64_t bytes) {
  return ((reinterpret_cast<uintptr_t>(target) | static_cast<uintptr_t>(bytes)) & 3) == 0;
}

// `bytes` while asking for as many that are `wanted` next. If kStream, past the caches: targets are whole words, and finish_streaming makes
// them visible to other threads. If not, at least a line.
template <bool kStream>
FASTRL_HD void copy_fetching(void* target, const void* source, int64_t bytes, const void* wanted) {
  char* to = static_cast<char*>(target);
  const char *from = static_cast<const char*>(source), *later = static_cast<const char*>(wanted);
  const int64_t head = static_cast<int64_t>(-reinterpret_cast<uintptr_t>(to) & (kLine - 1));
  int64_t done = head < bytes ? head : bytes;
  __builtin_prefetch(later);
  if (kStream)
    stream_words(to, from, done);
  else
    std::memcpy(to, from, kLine);
  for (; done + kLine <= bytes; done += kLine) {
    __builtin_prefetch(later + done);
    if (kStream)
      stream_line(to + done, from + done);
    else
      std::memcpy(to + done, from + done, kLine);
  }
  __builtin_prefetch(later + bytes - 1);
  if (kStream)
    stream_words(to + done, from + done, bytes - done);
  else
    std::memcpy(to + bytes - kLine, from + bytes - kLine, kLine);
}

}  // namespace fastrl::cpu
