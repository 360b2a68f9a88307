// One binary, several instruction levels: the same body compiled for each, the best one chosen at run time.
#pragma once

#include <cstdlib>
#include <cstring>
#include <type_traits>

#if defined(__GNUC__)
#define FASTRL_INLINE __attribute__((always_inline))
#define FASTRL_IVDEP _Pragma("GCC ivdep")
#else
#define FASTRL_INLINE
#define FASTRL_IVDEP
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(FASTRL_ONE_LEVEL)
#define FASTRL_X86_LEVELS 1
// x86-64-v3 and -v4 spelled out, which older compilers understand too
#define FASTRL_TARGET_V3 __attribute__((target("avx,avx2,bmi,bmi2,f16c,fma,lzcnt,movbe"), flatten))
#define FASTRL_TARGET_V4                                                                                                               \
  __attribute__((target("avx,avx2,bmi,bmi2,f16c,fma,lzcnt,movbe,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,prefer-vector-width=512"), \
                 flatten))
#else
#define FASTRL_X86_LEVELS 0
#endif

namespace fastrl::cpu {

#if FASTRL_X86_LEVELS

enum class Level { kBaseline, kV3, kV4 };

// What this processor and its operating system can run; FASTRL_CPU_LEVEL=baseline|v3|v4 asks for less, never for more.
inline Level find_level() {
  __builtin_cpu_init();
  const bool v3 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const char* asked = std::getenv("FASTRL_CPU_LEVEL");
  if (!v3 || (asked != nullptr && std::strcmp(asked, "baseline") == 0)) return Level::kBaseline;
  if (!v4 || (asked != nullptr && std::strcmp(asked, "v3") == 0)) return Level::kV3;
  return Level::kV4;
}

inline Level level() {
  static const Level found = find_level();
  return found;
}

// `flatten` pulls the whole body into a function that may use the level's instructions; the body itself is compiled for the baseline.
template <class Body>
FASTRL_TARGET_V4 void run_v4(const Body& body) {
  body();
}

template <class Body>
FASTRL_TARGET_V3 void run_v3(const Body& body) {
  body();
}

// with_best_instructions for a body that wants to know how many bytes a vector register has, as a type: body(RegisterBytes<64>{})
template <int kBytes>
using RegisterBytes = std::integral_constant<int, kBytes>;

template <class Body>
void with_best_registers(const Body& body) {
  switch (level()) {
    case Level::kV4:
      return run_v4([&]() FASTRL_INLINE { body(RegisterBytes<64>{}); });
    case Level::kV3:
      return run_v3([&]() FASTRL_INLINE { body(RegisterBytes<32>{}); });
    default:
      return body(RegisterBytes<16>{});
  }
}

template <class Body>
void with_best_instructions(const Body& body) {
  switch (level()) {
    case Level::kV4:
      return run_v4(body);
    case Level::kV3:
      return run_v3(body);
    default:
      return body();
  }
}

#else

template <int kBytes>
using RegisterBytes = std::integral_constant<int, kBytes>;

template <class Body>
void with_best_registers(const Body& body) {
  body(RegisterBytes<16>{});
}

template <class Body>
void with_best_instructions(const Body& body) {
  body();
}

#endif

}  // namespace fastrl::cpu
