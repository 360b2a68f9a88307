// A chain of linear layers, each followed by an activation or none: the small networks of policies and value functions, in one call. On
// a CPU; elsewhere the chain is put together from torch's products (fastrl/nn/dense.py).
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "core/tensor.h"
#include "ops/dense_chain.h"

namespace fastrl::dense {

inline Activation checked_activation(const char* op, int64_t activation) {
  FASTRL_CHECK(activation >= 0 && activation <= 3, op, ": activations must be 0 (none), 1 (tanh), 2 (elu) or 3 (relu), got ", activation);
  return static_cast<Activation>(activation);
}

// The layers of a call, checked against one another and x.
template <class T>
Chain<T> checked_chain(const char* op,
                       const Tensor& x,
                       const std::vector<Tensor>& weights,
                       const std::vector<Tensor>& biases,
                       const std::vector<int64_t>& activations) {
  FASTRL_CHECK(x.dim() == 2 && x.is_contiguous(), op, ": x must be contiguous and have shape [B, I]");
  FASTRL_CHECK(!weights.empty() && weights.size() == biases.size() && weights.size() == activations.size(),
               op,
               ": weights, biases and activations must be as many, at least one");
  Chain<T> chain;
  int64_t inputs = x.size(1);
  for (size_t l = 0; l < weights.size(); ++l) {
    const Tensor &weight = weights[l], &bias = biases[l];
    check_like(op, "a weight", weight, x.scalar_type(), x);
    check_like(op, "a bias", bias, x.scalar_type(), x);
    FASTRL_CHECK(weight.dim() == 2 && weight.size(1) == inputs && weight.is_contiguous(),
                 op,
                 ": a weight must be contiguous, [outputs, inputs], with as many inputs as come to it");
    FASTRL_CHECK(bias.dim() == 1 && bias.size(0) == weight.size(0) && bias.is_contiguous(), op, ": a bias must be contiguous, [outputs]");
    chain.layers.push_back({static_cast<const T*>(weight.data_ptr()),
                            static_cast<const T*>(bias.data_ptr()),
                            inputs,
                            weight.size(0),
                            checked_activation(op, activations[l])});
    inputs = weight.size(0);
  }
  return chain;
}

template <class Body>
void for_float_or_double(const char* op, const Tensor& x, const Body& body) {
  if (x.scalar_type() == ScalarType::Float) return body(TypeTag<float>{});
  FASTRL_CHECK(x.scalar_type() == ScalarType::Double, op, ": x must be float32 or float64");
  body(TypeTag<double>{});
}

// The results of all layers, or, without `keep`, of the last alone.
inline std::vector<Tensor> dense_layers(const Tensor& x,
                                        const std::vector<Tensor>& weights,
                                        const std::vector<Tensor>& biases,
                                        const std::vector<int64_t>& activations,
                                        bool keep) {
  std::vector<Tensor> results;
  for_float_or_double("dense_layers", x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Chain<T> chain = checked_chain<T>("dense_layers", x, weights, biases, activations);
    std::vector<T*> data(chain.layers.size(), nullptr);
    for (size_t l = 0; l < chain.layers.size(); ++l) {
      if (!keep && l + 1 < chain.layers.size()) continue;
      results.push_back(new_matrix(x, x.size(0), chain.layers[l].outputs));
      data[l] = static_cast<T*>(results.back().data_ptr());
    }
    Forward<T>{chain, static_cast<const T*>(x.data_ptr()), data, x.size(0)}.run();
  });
  return results;
}

// The choice with the largest logit − log(noise), of each row: a draw from the categorical of the last layer's logits where noise is
// exponential. Of several that are equal the first; NaN counts as the smallest.
template <class T>
void choose(const T* logits, const T* noise, int64_t rows, int64_t choices, int64_t* chosen) {
  for (int64_t row = 0; row < rows; ++row, logits += choices, noise += choices) {
    T best = -std::numeric_limits<T>::infinity();
    chosen[row] = 0;
    for (int64_t i = 0; i < choices; ++i) {
      const T score = logits[i] - std::log(noise[i]);
      if (score > best) {
        best = score;
        chosen[row] = i;
      }
    }
  }
}

// `noise` [B, choices], of x's dtype; the result is int64 [B].
inline Tensor dense_choices(const Tensor& x,
                            const std::vector<Tensor>& weights,
                            const std::vector<Tensor>& biases,
                            const std::vector<int64_t>& activations,
                            const Tensor& noise) {
  const Tensor logits = dense_layers(x, weights, biases, activations, false).back();
  check_like("dense_choices", "noise", noise, x.scalar_type(), x);
  check_matrix("dense_choices", "noise", noise, logits.size(0), logits.size(1));
  FASTRL_CHECK(noise.is_contiguous(), "dense_choices: noise must be contiguous");
  FASTRL_CHECK(logits.size(1) > 0, "dense_choices: there must be a choice");
  const int64_t rows = logits.size(0);
  const Tensor chosen = new_tensor(x, &rows, 1, aoti_torch_dtype_int64());
  for_float_or_double("dense_choices", x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    choose(static_cast<const T*>(logits.data_ptr()),
           static_cast<const T*>(noise.data_ptr()),
           rows,
           logits.size(1),
           static_cast<int64_t*>(chosen.data_ptr()));
  });
  return chosen;
}

// The gradients of weights, then of biases, then, if it is wanted, of x.
inline std::vector<Tensor> dense_layers_backward(const Tensor& gradient,
                                                 const Tensor& x,
                                                 const std::vector<Tensor>& weights,
                                                 const std::vector<Tensor>& biases,
                                                 const std::vector<int64_t>& activations,
                                                 const std::vector<Tensor>& results,
                                                 bool wants_x) {
  const char* op = "dense_layers_backward";
  std::vector<Tensor> gradients;
  for_float_or_double(op, x, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const Chain<T> chain = checked_chain<T>(op, x, weights, biases, activations);
    FASTRL_CHECK(results.size() == chain.layers.size(), op, ": results must be as many as weights");
    std::vector<const T*> data;
    for (size_t l = 0; l < chain.layers.size(); ++l) {
      check_like(op, "a result", results[l], x.scalar_type(), x);
      check_matrix(op, "a result", results[l], x.size(0), chain.layers[l].outputs);
      FASTRL_CHECK(results[l].is_contiguous(), op, ": a result must be contiguous");
      data.push_back(static_cast<const T*>(results[l].data_ptr()));
    }
    check_like(op, "gradient", gradient, x.scalar_type(), x);
    check_matrix(op, "gradient", gradient, x.size(0), chain.layers.back().outputs);
    FASTRL_CHECK(gradient.is_contiguous(), op, ": gradient must be contiguous");
    std::vector<T*> weight_gradients, bias_gradients;
    for (const Tensor& weight : weights) {
      gradients.push_back(new_matrix(x, weight.size(0), weight.size(1)));
      weight_gradients.push_back(static_cast<T*>(gradients.back().data_ptr()));
    }
    for (const Tensor& bias : biases) {
      gradients.push_back(new_tensor(x, {bias.size(0)}));
      bias_gradients.push_back(static_cast<T*>(gradients.back().data_ptr()));
    }
    T* x_gradient = nullptr;
    if (wants_x) {
      gradients.push_back(new_matrix(x, x.size(0), x.size(1)));
      x_gradient = static_cast<T*>(gradients.back().data_ptr());
    }
    Backward<T>{chain,
                static_cast<const T*>(gradient.data_ptr()),
                static_cast<const T*>(x.data_ptr()),
                data,
                x_gradient,
                weight_gradients,
                bias_gradients,
                x.size(0)}
        .run();
  });
  return gradients;
}

}  // namespace fastrl::dense
