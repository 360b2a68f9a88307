// The loops that one would write for an op over a rollout without this library: what its kernels are timed against.
#pragma once

#include <cmath>
#include <vector>

#include "core/cpu.h"
#include "ops/gae.h"
#include "ops/retrace.h"
#include "ops/vtrace.h"

namespace fastrl::dev {

using Gae = TimeMajor<float, GaeFormula<float>>;
using Retrace = TimeMajor<float, RetraceFormula<float>>;
using Vtrace = TimeMajor<float, VtraceFormula<float>>;

// std::exp is a call for every element; a loop meant to be vectorised gets ours.
template <bool kFastExp>
FASTRL_HD float exponential(float x) {
  return kFastExp ? fast_exp(x) : std::exp(x);
}

// One element, number `i` of the contiguous tensors, as one would write it; `carry` is what the element after it left behind.
template <bool kFastExp>
FASTRL_HD void simple_element(const Gae& op, int64_t i, float& carry) {
  const float *reward = op.inputs[0].data, *value = op.inputs[1].data, *next_value = op.inputs[2].data;
  const uint8_t *terminated = op.flags.terminated.data, *truncated = op.flags.truncated.data;
  const float bootstrap = 1.0f - terminated[i], goes_on = 1.0f - (terminated[i] | truncated[i]);
  carry = reward[i] + op.formula.gamma * bootstrap * next_value[i] - value[i] + op.formula.trace * goes_on * carry;
  op.outputs[0].data[i] = carry;
  op.outputs[1].data[i] = carry + value[i];
}

// Here the carry is c_{t+1} (target_{t+1} - Q_{t+1}).
template <bool kFastExp>
FASTRL_HD void simple_element(const Retrace& op, int64_t i, float& carry) {
  const float *reward = op.inputs[0].data, *q = op.inputs[1].data, *next_value = op.inputs[2].data, *log_rho = op.inputs[3].data;
  const uint8_t *terminated = op.flags.terminated.data, *truncated = op.flags.truncated.data;
  const float bootstrap = 1.0f - terminated[i], goes_on = 1.0f - (terminated[i] | truncated[i]);
  const float correction = reward[i] + op.formula.gamma * bootstrap * next_value[i] - q[i] + op.formula.gamma * goes_on * carry;
  op.outputs[0].data[i] = q[i] + correction;
  carry = op.formula.lambda * exponential<kFastExp>(std::min(log_rho[i], 0.0f)) * correction;
}

template <bool kFastExp>
FASTRL_HD void simple_element(const Vtrace& op, int64_t i, float& carry) {
  const float *reward = op.inputs[0].data, *value = op.inputs[1].data, *next_value = op.inputs[2].data, *log_rho = op.inputs[3].data;
  const uint8_t *terminated = op.flags.terminated.data, *truncated = op.flags.truncated.data;
  const float bootstrap = 1.0f - terminated[i], goes_on = 1.0f - (terminated[i] | truncated[i]);
  const float ratio = exponential<kFastExp>(log_rho[i]), gamma = op.formula.gamma;
  const float residual = reward[i] + gamma * bootstrap * next_value[i] - value[i];
  op.outputs[1].data[i] = std::min(ratio, op.formula.pg_rho_clip) * (residual + gamma * goes_on * carry);
  carry = std::min(ratio, op.formula.rho_clip) * residual + op.formula.trace * goes_on * std::min(ratio, op.formula.c_clip) * carry;
  op.outputs[0].data[i] = value[i] + carry;
}

// What one would write first: down the columns, one after the other.
template <class Op>
void columns_loop(const Op& op) {
  for (int64_t n = 0; n < op.num_envs; ++n) {
    float carry = 0.0f;
    for (int64_t t = op.num_steps - 1; t >= 0; --t) simple_element<false>(op, t * op.num_envs + n, carry);
  }
}

// The second thing: all columns of a row, then the row before; the carries of a row in `carry`.
template <class Op>
void rows_loop(const Op& op) {
  std::vector<float> carry(static_cast<size_t>(op.num_envs), 0.0f);
  for (int64_t t = op.num_steps - 1; t >= 0; --t)
    for (int64_t n = 0; n < op.num_envs; ++n) simple_element<false>(op, t * op.num_envs + n, carry[static_cast<size_t>(n)]);
}

// The same told that nothing overlaps, and compiled for the processor it runs on: as fast as a simple loop gets.
template <class Op>
void rows_loop_vectorised(const Op& op) {
  std::vector<float> carries(static_cast<size_t>(op.num_envs), 0.0f);
  float* carry = carries.data();
  cpu::with_best_instructions([&]() FASTRL_INLINE {
    const Op local = op;
    for (int64_t t = local.num_steps - 1; t >= 0; --t) {
      FASTRL_IVDEP
      for (int64_t n = 0; n < local.num_envs; ++n) simple_element<true>(local, t * local.num_envs + n, carry[n]);
    }
  });
}

}  // namespace fastrl::dev
