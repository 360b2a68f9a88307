#include "ops/dense_layers.h"

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl, m) {
  m.def("dense_layers(Tensor x, Tensor[] weights, Tensor[] biases, int[] activations, bool keep) -> Tensor[]");
  m.def("dense_choices(Tensor x, Tensor[] weights, Tensor[] biases, int[] activations, Tensor noise) -> Tensor");
  m.def(
      "dense_layers_backward(Tensor gradient, Tensor x, Tensor[] weights, Tensor[] biases, int[] activations, Tensor[] results, "
      "bool wants_x) -> Tensor[]");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl, CPU, m) {
  m.impl("dense_layers", TORCH_BOX(&fastrl::dense::dense_layers));
  m.impl("dense_choices", TORCH_BOX(&fastrl::dense::dense_choices));
  m.impl("dense_layers_backward", TORCH_BOX(&fastrl::dense::dense_layers_backward));
}
