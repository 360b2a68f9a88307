// What the benches compare `gae` with, and clocks inside the native code: torch.ops.fastrl_dev. Never part of a wheel.
#include <chrono>
#include <vector>

#include "core/block_scan.h"
#include "core/cpu.h"
#include "ops/gae.h"

namespace fastrl {
namespace {

// The loop one would write first: down the columns, one after the other.
void columns_loop(const Gae<float>& op) {
  const float *reward = op.rewards.data, *value = op.values.data;
  const uint8_t *terminated = op.terminated.data, *truncated = op.truncated.data;
  float* __restrict advantages = op.outputs[0].data, * __restrict returns = op.outputs[1].data;
  for (int64_t n = 0; n < op.num_envs; ++n) {
    float advantage = 0.0f;
    for (int64_t t = op.num_steps - 1; t >= 0; --t) {
      const int64_t i = t * op.num_envs + n;
      const float bootstrap = 1.0f - terminated[i], goes_on = 1.0f - (terminated[i] | truncated[i]);
      advantage = reward[i] + op.gamma * bootstrap * value[i + op.num_envs] - value[i] + op.trace * goes_on * advantage;
      advantages[i] = advantage;
      returns[i] = advantage + value[i];
    }
  }
}

// The second thing one would write: all columns of a row, then the row before. The carries of a row live in `carry`.
FASTRL_HD void rows(const Gae<float>& op, float* carry, bool vectorised) {
  const int64_t num_envs = op.num_envs;
  for (int64_t t = op.num_steps - 1; t >= 0; --t) {
    const float *reward = op.rewards.row(t), *value = op.values.row(t), *next_value = op.values.row(t + 1);
    const uint8_t *terminated = op.terminated.row(t), *truncated = op.truncated.row(t);
    float *advantages = op.outputs[0].row(t), *returns = op.outputs[1].row(t);
    const auto column = [&](int64_t n) FASTRL_INLINE {
      const float bootstrap = 1.0f - terminated[n], goes_on = 1.0f - (terminated[n] | truncated[n]);
      carry[n] = reward[n] + op.gamma * bootstrap * next_value[n] - value[n] + op.trace * goes_on * carry[n];
      advantages[n] = carry[n];
      returns[n] = carry[n] + value[n];
    };
    if (vectorised) {
      FASTRL_IVDEP
      for (int64_t n = 0; n < num_envs; ++n) column(n);
    } else {
      for (int64_t n = 0; n < num_envs; ++n) column(n);
    }
  }
}

void rows_loop(const Gae<float>& op) {
  std::vector<float> carry(static_cast<size_t>(op.num_envs), 0.0f);
  rows(op, carry.data(), false);
}

// The same told that nothing overlaps, and compiled for the processor it runs on: as fast as a simple loop gets.
void rows_loop_vectorised(const Gae<float>& op) {
  std::vector<float> carry(static_cast<size_t>(op.num_envs), 0.0f);
  cpu::with_best_instructions([&]() FASTRL_INLINE { rows(op, carry.data(), true); });
}

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

// Seconds of one run of each repetition, [repeats] float64, written to the caller's outputs: no allocation, no dispatcher.
Tensor gae_seconds(const Tensor& rewards,
                   const Tensor& values,
                   const Tensor& terminated,
                   const Tensor& truncated,
                   const Tensor& advantages,
                   const Tensor& returns,
                   const Tensor& seconds,
                   int64_t kernel) {
  FASTRL_CHECK(rewards.scalar_type() == ScalarType::Float, "gae_seconds: float32 only");
  FASTRL_CHECK(seconds.scalar_type() == ScalarType::Double && seconds.dim() == 1, "gae_seconds: seconds must be float64 [repeats]");
  const Gae<float> op{rewards.size(0),
                      rewards.size(1),
                      view_of<const float>(rewards),
                      view_of<const float>(values),
                      view_of<const uint8_t>(terminated),
                      view_of<const uint8_t>(truncated),
                      View<const uint8_t>{},
                      0.99f,
                      0.99f * 0.95f,
                      {view_of<float>(advantages), view_of<float>(returns)}};
  double* clock = static_cast<double*>(seconds.data_ptr());
  for (int64_t i = 0; i < seconds.size(0); ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (kernel == 0)
      Cpu::reverse_scan(op, 0);
    else if (kernel == 1)
      rows_loop_vectorised(op);
    else if (kernel == 2)
      columns_loop(op);
    else
      rows_loop(op);
    clock[i] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return seconds;
}

}  // namespace
}  // namespace fastrl

STABLE_TORCH_LIBRARY_FRAGMENT(fastrl_dev, m) {
  m.def(
      "gae_blocks(Tensor rewards, Tensor values, Tensor terminated, Tensor truncated, float gamma, float gae_lambda, Tensor? valid=None)"
      " -> (Tensor, Tensor)");
  m.def(
      "gae_seconds(Tensor rewards, Tensor values, Tensor terminated, Tensor truncated, Tensor(a!) advantages, Tensor(b!) returns,"
      " Tensor(c!) seconds, int kernel) -> Tensor(c!)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrl_dev, CPU, m) {
  m.impl("gae_blocks", TORCH_BOX(&fastrl::gae<fastrl::EmulatedBlocks>));
  m.impl("gae_seconds", TORCH_BOX(&fastrl::gae_seconds));
}
