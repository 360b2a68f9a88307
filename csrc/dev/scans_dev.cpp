// What the benches compare the scans with, and clocks inside the native code: torch.ops.fastrl_dev. Never part of a wheel.
#include <chrono>
#include <vector>

#include "core/block_scan.h"
#include "core/cpu.h"
#include "dev/simple_loops.h"
#include "ops/dae_targets.h"

namespace fastrl {
namespace {

// The GPU's algorithm on the CPU, block after block and thread after thread, for a GPU so small that it takes several tiles and blocks.
struct EmulatedBlocks {
  template <class Acc>
  struct Threads {
    std::vector<ThreadSteps<Acc>> all;

    template <class Body>
    void each(const Body& body) {
      for (size_t thread = 0; thread < all.size(); ++thread) body(static_cast<int>(thread), all[thread]);
    }
  };

  template <class Op>
  static void reverse_scan(const Op& op, int32_t) {
    if (op.masked())
      run<Op, true>(op);
    else
      run<Op, false>(op);
  }

  template <class Body>
  static void for_each(const Body& body, int64_t count, int32_t) {
    for (int64_t i = 0; i < count; ++i) body(i);
  }

  template <class Op, bool kMasked>
  static void run(const Op& op) {
    using Acc = typename Op::Acc;
    const BlockShape shape = choose_block(op.num_steps, op.num_envs, 256);
    std::vector<Affine<Acc>> shared(static_cast<size_t>(shape.threads()));
    for (int64_t first = 0; first < op.num_envs; first += shape.columns) {
      std::vector<Acc> carry(static_cast<size_t>(shape.columns), Acc(0));
      Threads<Acc> threads{std::vector<ThreadSteps<Acc>>(shared.size())};
      block_scan<Op, kMasked>(op, shape, first, threads, shared.data(), carry.data());
    }
  }
};

// Runs a kernel once for each element of `seconds`, float64, and leaves there what each run took: no allocation, no dispatcher.
template <class Op>
Tensor time_kernel(const Op& op, const Tensor& seconds, int64_t kernel) {
  FASTRL_CHECK(seconds.scalar_type() == ScalarType::Double && seconds.dim() == 1, "seconds must be float64 [repeats]");
  FASTRL_CHECK(op.contiguous(), "clocks are for contiguous tensors");
  double* clock = static_cast<double*>(seconds.data_ptr());
  for (int64_t i = 0; i < seconds.size(0); ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (kernel == 0)
      Cpu::reverse_scan(op, 0);
    else if (kernel == 1)
      dev::rows_loop_vectorised(op);
    else if (kernel == 2)
      dev::columns_loop(op);
    else
      dev::rows_loop(op);
    clock[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return seconds;
}

constexpr float kGamma = 0.99f, kLambda = 0.95f;

View<const float> floats(const char* name, const Tensor& tensor) {
  FASTRL_CHECK(tensor.scalar_type() == ScalarType::Float && tensor.dim() == 2, name, " must be float32 [T, N]");
  return view_of<const float>(tensor);
}

RolloutFlags flags_of(const Tensor& terminated, const Tensor& truncated) {
  return {view_of<const uint8_t>(terminated), view_of<const uint8_t>(truncated), {}};
}

Tensor gae_seconds(const Tensor& rewards,
                   const Tensor& values,
                   const Tensor& terminated,
                   const Tensor& truncated,
                   const Tensor& advantages,
                   const Tensor& returns,
                   const Tensor& seconds,
                   int64_t kernel) {
  const auto value = floats("values", values);
  const dev::Gae op{rewards.size(0),
                    rewards.size(1),
                    {floats("rewards", rewards), value, later(value)},
                    flags_of(terminated, truncated),
                    {view_of<float>(advantages), view_of<float>(returns)},
                    {kGamma, kGamma * kLambda}};
  return time_kernel(op, seconds, kernel);
}

Tensor retrace_seconds(const Tensor& rewards,
                       const Tensor& q_values,
                       const Tensor& next_values,
                       const Tensor& log_rhos,
                       const Tensor& terminated,
                       const Tensor& truncated,
                       const Tensor& targets,
                       const Tensor& seconds,
                       int64_t kernel) {
  const dev::Retrace op{
      rewards.size(0),
      rewards.size(1),
      {floats("rewards", rewards), floats("q_values", q_values), floats("next_values", next_values), floats("log_rhos", log_rhos)},
      flags_of(terminated, truncated),
      {view_of<float>(targets)},
      {kGamma, kLambda}};
  return time_kernel(op, seconds, kernel);
}

Tensor vtrace_seconds(const Tensor& rewards,
                      const Tensor& values,
                      const Tensor& log_rhos,
                      const Tensor& terminated,
                      const Tensor& truncated,
                      const Tensor& targets,
                      const Tensor& pg_advantages,
                      const Tensor& seconds,
                      int64_t kernel) {
  const auto value = floats("values", values);
  const dev::Vtrace op{rewards.size(0),
                       rewards.size(1),
                       {floats("rewards", rewards), value, later(value), floats("log_rhos", log_rhos)},
                       flags_of(terminated, truncated),
                       {view_of<float>(targets), view_of<float>(pg_advantages)},
                       {kGamma, kGamma, 1.0f, 1.0f, 1.0f}};
  return time_kernel(op, seconds, kernel);
}

}  // namespace
}  // namespace fastrl

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def(
      "gae_blocks(Tensor rewards, Tensor values, Tensor terminated, Tensor truncated, float gamma, float gae_lambda, Tensor? valid=None)"
      " -> (Tensor, Tensor)");
  m.def(
      "retrace_blocks(Tensor rewards, Tensor q_values, Tensor next_values, Tensor log_rhos, Tensor terminated, Tensor truncated,"
      " float gamma, float retrace_lambda, Tensor? valid=None) -> Tensor");
  m.def(
      "vtrace_blocks(Tensor rewards, Tensor values, Tensor log_rhos, Tensor terminated, Tensor truncated, float gamma,"
      " float vtrace_lambda, float rho_clip, float c_clip, float pg_rho_clip, Tensor? valid=None) -> (Tensor, Tensor)");
  m.def(
      "dae_targets_blocks(Tensor rewards, Tensor advantages, Tensor values, Tensor terminated, Tensor truncated, float gamma,"
      " Tensor? valid=None) -> Tensor");
  m.def(
      "dae_targets_backward_blocks(Tensor gradient, Tensor terminated, Tensor truncated, float gamma, Tensor? valid=None)"
      " -> (Tensor, Tensor)");
  m.def(
      "gae_seconds(Tensor rewards, Tensor values, Tensor terminated, Tensor truncated, Tensor(a!) advantages, Tensor(b!) returns,"
      " Tensor(c!) seconds, int kernel) -> Tensor(c!)");
  m.def(
      "retrace_seconds(Tensor rewards, Tensor q_values, Tensor next_values, Tensor log_rhos, Tensor terminated, Tensor truncated,"
      " Tensor(a!) targets, Tensor(b!) seconds, int kernel) -> Tensor(b!)");
  m.def(
      "vtrace_seconds(Tensor rewards, Tensor values, Tensor log_rhos, Tensor terminated, Tensor truncated, Tensor(a!) targets,"
      " Tensor(b!) pg_advantages, Tensor(c!) seconds, int kernel) -> Tensor(c!)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("gae_blocks", TORCH_BOX(&fastrl::gae<fastrl::EmulatedBlocks>));
  m.impl("retrace_blocks", TORCH_BOX(&fastrl::retrace<fastrl::EmulatedBlocks>));
  m.impl("vtrace_blocks", TORCH_BOX(&fastrl::vtrace<fastrl::EmulatedBlocks>));
  m.impl("dae_targets_blocks", TORCH_BOX(&fastrl::dae_targets<fastrl::EmulatedBlocks>));
  m.impl("dae_targets_backward_blocks", TORCH_BOX(&fastrl::dae_targets_backward<fastrl::EmulatedBlocks>));
  m.impl("gae_seconds", TORCH_BOX(&fastrl::gae_seconds));
  m.impl("retrace_seconds", TORCH_BOX(&fastrl::retrace_seconds));
  m.impl("vtrace_seconds", TORCH_BOX(&fastrl::vtrace_seconds));
}
