// Rows grouped by where they go, on a GPU: a stable radix sort.
#include <cub/device/device_radix_sort.cuh>

#include "core/cuda.cuh"

namespace fastrl {
namespace {

// starts[d] = how many of the sorted keys are below d
struct FindStarts {
  const int64_t* sorted;
  int64_t count;
  int64_t* starts;

  FASTRL_HD void operator()(int64_t destination) const {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (sorted[middle] < destination)
        low = middle + 1;
      else
        high = middle;
    }
    starts[destination] = low;
  }
};

struct WriteNumber {
  int64_t* out;
  FASTRL_HD void operator()(int64_t i) const { out[i] = i; }
};

}  // namespace

Groups Cuda::group(const Tensor& keys, int64_t destinations, int32_t device) {
  const torch::stable::accelerator::DeviceGuard guard(device);
  const int64_t count = keys.size(0);
  Groups groups{new_tensor(keys, {count}), new_tensor(keys, {destinations + 1})};
  Tensor sorted = new_tensor(keys, {count}), numbers = new_tensor(keys, {count});
  const auto data = [](const Tensor& tensor) { return static_cast<int64_t*>(tensor.data_ptr()); };
  for_each(WriteNumber{data(numbers)}, count, device);
  int bits = 1;
  while (bits < 63 && (destinations >> bits) != 0) ++bits;
  size_t bytes = 0;
  const auto sort = [&](void* temporary) {
    STD_CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
        temporary, bytes, data(keys), data(sorted), data(numbers), data(groups.order), count, 0, bits, stream(device)));
  };
  if (count > 0) {
    sort(nullptr);  // says how much room it needs
    Tensor room = new_tensor(keys, {static_cast<int64_t>(bytes / sizeof(int64_t)) + 1});
    sort(room.data_ptr());
  }
  for_each(FindStarts{data(sorted), count, data(groups.starts)}, destinations + 1, device);
  return groups;
}

}  // namespace fastrl
