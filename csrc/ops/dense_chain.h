// Forward and backward of a chain of linear layers on a CPU, in blocks of rows that stay in cache with all layers.
#pragma once

#include <vector>

#include "core/cpu.h"
#include "core/cpu_products.h"
#include "core/exp.h"
#include "ops/tanh.h"

namespace fastrl::dense {

enum class Activation : int64_t { kNone = 0, kTanh = 1, kElu = 2, kRelu = 3 };

constexpr int64_t kBlockRows = 64;  // what a block's rows take of all layers stays in cache

template <class T>
FASTRL_HD T activate(Activation activation, T x) {
  switch (activation) {
    case Activation::kTanh:
      return static_cast<T>(fast_tanh(x));
    case Activation::kElu:
      return x < 0 ? fast_expm1_of_negative(x) : x;
    case Activation::kRelu:
      return x < 0 ? T(0) : x;  // NaN stays
    default:
      return x;
  }
}

// gradient · dy/dx, from y
template <class T>
FASTRL_HD T through(Activation activation, T y, T gradient) {
  switch (activation) {
    case Activation::kTanh:
      return gradient * (T(1) - y * y);
    case Activation::kElu:
      return y < 0 ? gradient * (y + T(1)) : gradient;
    case Activation::kRelu:
      return y <= 0 ? T(0) : gradient;  // whatever the gradient is, infinite too
    default:
      return gradient;
  }
}

// Calls body(constant) with the activation as a constant of the loop that body holds.
template <class Body>
FASTRL_HD void for_activation(Activation activation, const Body& body) {
  switch (activation) {
    case Activation::kTanh:
      return body(std::integral_constant<Activation, Activation::kTanh>{});
    case Activation::kElu:
      return body(std::integral_constant<Activation, Activation::kElu>{});
    case Activation::kRelu:
      return body(std::integral_constant<Activation, Activation::kRelu>{});
    default:
      return;
  }
}

template <class T>
FASTRL_HD void activate_all(Activation activation, T* x, int64_t count) {
  for_activation(activation, [&](auto constant) FASTRL_INLINE {
    FASTRL_IVDEP
    for (int64_t i = 0; i < count; ++i) x[i] = activate<T>(constant(), x[i]);
  });
}

template <class T>
FASTRL_HD void multiply_by_slope(Activation activation, const T* y, T* gradient, int64_t count) {
  for_activation(activation, [&](auto constant) FASTRL_INLINE {
    FASTRL_IVDEP
    for (int64_t i = 0; i < count; ++i) gradient[i] = through<T>(constant(), y[i], gradient[i]);
  });
}

// One layer: weight [outputs, inputs], bias [outputs].
template <class T>
struct Layer {
  const T* weight;
  const T* bias;
  int64_t inputs, outputs;
  Activation activation;
};

template <class T>
struct Chain {
  std::vector<Layer<T>> layers;

  int64_t parameters() const {
    int64_t count = 0;
    for (const auto& layer : layers) count += layer.outputs * (layer.inputs + 1);
    return count;
  }
  int64_t widest() const {
    int64_t most = 0;
    for (const auto& layer : layers) most = std::max({most, layer.inputs, layer.outputs});
    return most;
  }
};

// Operations that pay for a thread of their own.
constexpr int64_t kOperationsPerThread = 4 << 20;

template <class T>
struct Forward {
  const Chain<T>& chain;
  const T* x;
  std::vector<T*> results;  // of each layer [rows, outputs]; null where nobody wants it
  int64_t rows;

  void run() const {
    std::vector<T> packed = pack();
    const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
    Cpu::share(blocks, 2 * rows * chain.parameters() / kOperationsPerThread, [&](int64_t first, int64_t last) {
      std::vector<T> scratch(static_cast<size_t>(2 * kBlockRows * chain.widest()));
      cpu::with_best_registers([&](auto bytes) FASTRL_INLINE {
        for (int64_t block = first; block < last; ++block) run_block<decltype(bytes)::value>(block * kBlockRows, packed, scratch);
      });
    });
  }

 private:
  // biases up to whole lanes, and weights transposed
  std::vector<T> pack() const {
    int64_t size = 0;
    for (const auto& layer : chain.layers) size += (layer.inputs + 1) * cpu::whole_lanes(layer.outputs);
    std::vector<T> packed(static_cast<size_t>(size));
    T* to = packed.data();
    for (const auto& layer : chain.layers) {
      cpu::pad_rows(layer.bias, 0, 1, layer.outputs, to);
      to += cpu::whole_lanes(layer.outputs);
      cpu::transpose_padded(layer.weight, layer.outputs, layer.inputs, to);
      to += layer.inputs * cpu::whole_lanes(layer.outputs);
    }
    return packed;
  }

  template <int kRegisterBytes>
  FASTRL_HD void run_block(int64_t first, const std::vector<T>& packed, std::vector<T>& scratch) const {
    const int64_t count = std::min(kBlockRows, rows - first);
    const T* from = x + first * chain.layers.front().inputs;
    const T* weights = packed.data();
    for (size_t l = 0; l < chain.layers.size(); ++l) {
      const Layer<T>& layer = chain.layers[l];
      const int64_t width = cpu::whole_lanes(layer.outputs);
      T* to = results[l] != nullptr ? results[l] + first * layer.outputs : scratch.data() + (l % 2) * kBlockRows * chain.widest();
      cpu::Product<T, kRegisterBytes>{
          {from, layer.inputs, 1}, weights + width, width, weights, to, layer.outputs, count, layer.outputs, layer.inputs}
          .run();
      activate_all(layer.activation, to, count * layer.outputs);
      from = to;
      weights += (layer.inputs + 1) * width;
    }
  }
};

// Gradients of all parameters, and of x where `x_gradient` is not null. Rows are cut into chunks by their number alone; each adds up its
// own, and these are added up in order.
template <class T>
struct Backward {
  const Chain<T>& chain;
  const T* gradient;  // of the last layer's result
  const T* x;
  std::vector<const T*> results;  // of each layer; the last one's may be null where it has no activation
  T* x_gradient;
  std::vector<T*> weight_gradients, bias_gradients;
  int64_t rows;

  void run() const {
    const int64_t chunk_rows = rows_of_a_chunk();
    const int64_t chunks = std::max<int64_t>(1, (rows + chunk_rows - 1) / chunk_rows);
    const int64_t parameters = chain.parameters();
    std::vector<T> sums(static_cast<size_t>(chunks * parameters), T(0));
    const std::vector<T> padded = pad_weights();
    Cpu::share(chunks, 4 * rows * parameters / kOperationsPerThread, [&](int64_t first, int64_t last) {
      std::vector<T> scratch(static_cast<size_t>(3 * kBlockRows * cpu::whole_lanes(chain.widest())));
      cpu::with_best_registers([&](auto bytes) FASTRL_INLINE {
        for (int64_t chunk = first; chunk < last; ++chunk) {
          const int64_t end = std::min(rows, (chunk + 1) * chunk_rows);
          for (int64_t row = chunk * chunk_rows; row < end; row += kBlockRows)
            run_block<decltype(bytes)::value>(row, std::min(kBlockRows, end - row), padded, scratch, sums.data() + chunk * parameters);
        }
      });
    });
    cpu::with_best_instructions([&]() FASTRL_INLINE { add_up(sums, chunks); });
  }

 private:
  static constexpr int64_t kMostChunks = 32, kLeastRows = 256;

  int64_t rows_of_a_chunk() const {
    const int64_t blocks = (rows / kMostChunks + kBlockRows - 1) / kBlockRows;
    return std::max(kLeastRows, blocks * kBlockRows);
  }

  bool wants_input_gradient(size_t l) const { return l > 0 || x_gradient != nullptr; }

  // Weights whose rows are not whole lanes; the others are read where they lie.
  std::vector<T> pad_weights() const {
    int64_t size = 0;
    for (const auto& layer : chain.layers) size += layer.outputs * cpu::whole_lanes(layer.inputs);
    std::vector<T> padded(static_cast<size_t>(size));
    T* to = padded.data();
    for (size_t l = 0; l < chain.layers.size(); ++l) {
      const Layer<T>& layer = chain.layers[l];
      if (wants_input_gradient(l) && layer.inputs % cpu::kProductLanes != 0)
        cpu::pad_rows(layer.weight, layer.inputs, layer.outputs, layer.inputs, to);
      to += layer.outputs * cpu::whole_lanes(layer.inputs);
    }
    return padded;
  }

  template <int kRegisterBytes>
  FASTRL_HD void run_block(int64_t first, int64_t count, const std::vector<T>& padded, std::vector<T>& scratch, T* sums) const {
    const int64_t part = kBlockRows * cpu::whole_lanes(chain.widest());
    T* here = scratch.data();  // gradient of this layer's result, and then of what it was before the activation
    T* below = here + part;
    T* inputs = below + part;
    const size_t last = chain.layers.size() - 1;
    const int64_t outputs = chain.layers[last].outputs;
    memcpy(here, gradient + first * outputs, static_cast<size_t>(count * outputs) * sizeof(T));
    const T* weights_end = padded.data() + padded.size();
    T* sums_end = sums + chain.parameters();
    for (size_t l = last + 1; l-- > 0;) {
      const Layer<T>& layer = chain.layers[l];
      const int64_t in = layer.inputs, out = layer.outputs, width = cpu::whole_lanes(in);
      weights_end -= out * width;
      sums_end -= out * (in + 1);
      if (layer.activation != Activation::kNone) multiply_by_slope(layer.activation, results[l] + first * out, here, count * out);
      const T* from = (l > 0 ? results[l - 1] : x) + first * in;
      if (width != in) {
        cpu::pad_rows(from, in, count, in, inputs);
        from = inputs;
      }
      add_rows(here, count, out, sums_end + out * in);
      cpu::Product<T, kRegisterBytes>{{here, 1, out}, from, width, nullptr, sums_end, in, out, in, count}.run();
      if (!wants_input_gradient(l)) continue;
      T* to = l > 0 ? below : x_gradient + first * in;
      for (int64_t i = 0; i < count * in; ++i) to[i] = T(0);
      cpu::Product<T, kRegisterBytes>{{here, out, 1}, width == in ? layer.weight : weights_end, width, nullptr, to, in, count, in, out}
          .run();
      std::swap(here, below);
    }
  }

  FASTRL_HD static void add_rows(const T* from, int64_t count, int64_t columns, T* sums) {
    for (int64_t r = 0; r < count; ++r) {
      const T* row = from + r * columns;
      FASTRL_IVDEP
      for (int64_t c = 0; c < columns; ++c) sums[c] += row[c];
    }
  }

  FASTRL_HD void add_up(const std::vector<T>& sums, int64_t chunks) const {
    const int64_t parameters = chain.parameters();
    int64_t start = 0;
    for (size_t l = 0; l < chain.layers.size(); ++l) {
      const int64_t weights = chain.layers[l].outputs * chain.layers[l].inputs;
      add_part(sums.data() + start, chunks, parameters, weights, weight_gradients[l]);
      add_part(sums.data() + start + weights, chunks, parameters, chain.layers[l].outputs, bias_gradients[l]);
      start += weights + chain.layers[l].outputs;
    }
  }

  FASTRL_HD static void add_part(const T* from, int64_t chunks, int64_t stride, int64_t count, T* to) {
    memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      const T* part = from + chunk * stride;
      FASTRL_IVDEP
      for (int64_t i = 0; i < count; ++i) to[i] += part[i];
    }
  }
};

}  // namespace fastrl::dense
