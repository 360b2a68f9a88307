"""One function over all ops compiles whole, once, for every T, N and B."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from fastrl import ops
from fastrl.testing import OP_CASES


def learn(
    observations: Tensor,
    actions: Tensor,
    rewards: Tensor,
    values: Tensor,
    log_rhos: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    start: Tensor,
    env: Tensor,
    memory: Tensor,
    position: Tensor,
    episode: Tensor,
    index: Tensor,
    mask: Tensor,
    query: Tensor,
) -> tuple[Tensor, ...]:
    """What a learner with memory might do in one update: every op, some fed by others."""
    ends = {"terminated": terminated, "truncated": truncated, "gamma": 0.99}
    advantages, returns = ops.gae(rewards, values, **ends, gae_lambda=0.95)
    targets = ops.retrace(rewards, values[:-1], values[1:], log_rhos, **ends, retrace_lambda=0.9)
    corrected, pg_advantages = ops.vtrace(rewards, values, log_rhos, **ends)
    dae = ops.dae_targets(rewards, ops.tanh(advantages), ops.elu(values), **ends)
    windows_of_replay = ops.gather_sequences([observations, actions, terminated], start, env, 3)
    windows = ops.memory_window_gather(memory, episode, index, mask=mask, position=position)
    selected = ops.batched_index_select(windows, 1, index % index.shape[1])
    attended = ops.memory_attention(query, memory, memory, episode, index, mask=mask)
    normal = ops.layer_norm_tanh(attended.flatten(0, 1), position[0], position[1], shift=query[:, 0])
    return (
        advantages + targets + corrected + pg_advantages + dae + returns,
        *windows_of_replay,
        selected,
        normal,
        attended,
    )


def inputs_for(steps: int, envs: int, batch: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(steps)
    slots, window, heads, width = (
        9,
        5,
        2,
        10,
    )  # no size equal to another of the first call: they would be taken for the same
    normal = lambda *sizes: torch.randn(*sizes, generator=generator)  # noqa: E731
    below = lambda most, *sizes: torch.randint(0, most, sizes, generator=generator)  # noqa: E731
    return {
        "observations": normal(steps, envs, 4),
        "actions": below(5, steps, envs),
        "rewards": normal(steps, envs),
        "values": normal(steps + 1, envs),
        "log_rhos": normal(steps, envs),
        "terminated": below(10, steps, envs) == 0,
        "truncated": below(10, steps, envs) == 0,
        "start": below(steps, batch),
        "env": below(envs, batch),
        "memory": normal(envs, slots, heads, width),
        "position": normal(slots, width),
        "episode": below(envs, batch),
        "index": below(slots, batch, window),
        "mask": below(4, batch, window) > 0,
        "query": normal(batch, heads, width),
    }


def test_all_ops_compile_into_one_program_for_all_sizes() -> None:
    torch.compiler.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(learn, fullgraph=True, dynamic=True, backend=counter)
    compiled(**inputs_for(12, 8, 6))
    graphs = (
        counter.frame_count
    )  # the compiler may take a second try at the first call, where numbers turn out to be constants
    for steps, envs, batch in ((12, 8, 6), (20, 5, 11), (33, 17, 4), (7, 64, 30)):
        inputs = inputs_for(steps, envs, batch)
        for got, expected in zip(compiled(**inputs), learn(**inputs), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    assert counter.frame_count == graphs, "another size made it compile again"


def test_gradients_flow_through_the_compiled_program() -> None:
    torch.compiler.reset()
    inputs = inputs_for(12, 8, 6)
    variables = [name for name in ("memory", "position", "query", "values")]

    def gradients(function: Any) -> tuple[Tensor, ...]:
        given = {**inputs, **{name: inputs[name].clone().requires_grad_() for name in variables}}
        *_, selected, normal, attended = outputs = function(**given)
        (
            outputs[0].sum() + selected.square().sum() + normal.square().sum() + attended.square().sum()
        ).backward()
        return tuple(given[name].grad for name in variables)

    compiled = torch.compile(learn, fullgraph=True, dynamic=True, backend="aot_eager")
    for got, expected in zip(gradients(compiled), gradients(learn), strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("op", sorted(OP_CASES))
def test_the_program_uses_every_op(op: str) -> None:
    names = learn.__code__.co_names
    assert op in names, f"{op} is missing from the program above"
