// Faults on purpose, in sanitized builds alone: what does not catch these catches nothing.
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTRL_ADDRESS_SANITIZER
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FASTRL_ADDRESS_SANITIZER
#endif

#if defined(FASTRL_ADDRESS_SANITIZER)

#include <memory>

#include "core/tensor.h"

namespace {

int64_t read_past_end(int64_t size) {
  const auto numbers = std::make_unique<volatile int64_t[]>(static_cast<size_t>(size));
  return numbers[static_cast<size_t>(size)];
}

int64_t overflow(int64_t number) { return number + INT64_MAX; }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def("read_past_end(int size) -> int");
  m.def("overflow(int number) -> int");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CompositeExplicitAutograd, m) {
  m.impl("read_past_end", TORCH_BOX(&read_past_end));
  m.impl("overflow", TORCH_BOX(&overflow));
}

#endif
