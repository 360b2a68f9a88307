"""Recurrent memory against stepping through every environment by hand, in float64."""

from __future__ import annotations

import pytest
import torch

from fastrl.memory.recurrent_agent import RecurrentAgent
from fastrl.memory.recurrent_memory import RecurrentReader, cut_sequences

T, N, F, H = 23, 4, 3, 5


def make_agent(kind: str, layers: int = 2) -> RecurrentAgent:
    torch.manual_seed(0)
    agent = RecurrentAgent(
        kind, (F,), torch.float32, (3,), continuous=False, hidden_size=H, num_layers=layers
    )
    agent.encoder = torch.nn.Linear(F, H)
    return agent.double()


def make_rollout(seed: int, steps: tuple[int, ...] = (0, 3, 0, 7)) -> tuple[torch.Tensor, ...]:
    """(observations, valid, ended, steps of the episodes) with resets after ends, and held rows anywhere.

    `steps` are those at which the environments stand at first.
    """
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn(T, N, F, generator=generator, dtype=torch.float64)
    valid, ended = torch.ones(T, N, dtype=torch.bool), torch.zeros(T, N, dtype=torch.bool)
    position = torch.zeros(T, N, dtype=torch.int64)
    step, over = torch.tensor(steps), torch.zeros(N, dtype=torch.bool)
    for t in range(T):
        held = torch.rand(N, generator=generator) < 0.15
        valid[t] = ~over & ~held
        ended[t] = valid[t] & (torch.rand(N, generator=generator) < 0.2)
        position[t] = step
        step, over = torch.where(over, 0, step + valid[t]), ended[t].clone()
    return obs, valid, ended, position


def by_hand(
    agent: RecurrentAgent, obs: torch.Tensor, start: torch.Tensor, valid: torch.Tensor, ended: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """(logits, values) [T, N, …] and the state before every row; gradient flows through all of it."""
    state, over = start, torch.zeros(N, dtype=torch.bool)
    logits, values, states = [], [], []
    for t in range(T):
        states.append(state)
        policy, value, following = agent.step(obs[t], state)
        logits.append(policy.choices[0].logits)  # type: ignore[attr-defined]
        values.append(value)
        state = torch.where(valid[t][:, None, None], following, state)
        state = state.masked_fill(over[:, None, None], 0.0)
        over = ended[t]
    return torch.stack(logits), torch.stack(values), states


@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [T, 6])
def test_sequences_give_what_stepping_gives(kind: str, seed: int, length: int) -> None:
    agent = make_agent(kind)
    obs, valid, ended, position = make_rollout(seed)
    start = torch.randn(N, *agent.state_shape, dtype=torch.float64) * 0.5
    start[position[0] == 0] = 0.0
    with torch.no_grad():
        logits, values, states = by_hand(agent, obs, start, valid, ended)
    windows = torch.stack(states[::length])
    reader = RecurrentReader(agent, obs, windows, position, valid, length)
    taken = []
    for part in reader.parts(3):
        policy, found = part.read()
        taken.append(part.rows)
        of_part = valid.flatten().nonzero().squeeze(1)[part.rows]
        torch.testing.assert_close(found, values.flatten()[of_part])
        torch.testing.assert_close(policy.choices[0].logits, logits.flatten(0, 1)[of_part])  # type: ignore[attr-defined]
    assert torch.equal(torch.cat(taken).sort().values, torch.arange(int(valid.sum())))


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_gradients_flow_through_a_sequence_and_end_at_its_edges(kind: str) -> None:
    agent = make_agent(kind, layers=1)
    obs, valid, ended, position = make_rollout(5, (0, 0, 0, 0))
    start = torch.zeros(N, *agent.state_shape, dtype=torch.float64)
    _, values, _ = by_hand(agent, obs, start, valid, ended)
    weights = torch.linspace(0.5, 1.5, T * N, dtype=torch.float64).view(T, N)
    (values * weights)[valid].sum().backward()
    learned = {name: value for name, value in agent.named_parameters() if value.grad is not None}
    expected = {name: value.grad.clone() for name, value in learned.items() if value.grad is not None}
    agent.zero_grad()
    reader = RecurrentReader(agent, obs, start[None], position, valid, T)
    for part in reader.parts(2, shuffled=False):
        _, found = part.read()
        (found * weights[valid][part.rows]).sum().backward()
    for name, gradient in expected.items():
        torch.testing.assert_close(learned[name].grad, gradient, msg=name)


def test_cutting_by_hand() -> None:
    """Two environments, windows of four rows; · is a row that is no transition.

    env 0: steps 5 6 7 · | 0 1 2 3    env 1: 0 · 1 2 | 3 4 5 6
    """
    position = torch.tensor([[5, 0], [6, 1], [7, 1], [8, 2], [0, 3], [1, 4], [2, 5], [3, 6]])
    valid = torch.ones(8, 2, dtype=torch.bool)
    valid[3, 0] = valid[1, 1] = False
    cut = cut_sequences(position, valid, 4)
    assert cut.length.tolist() == [3, 4, 3, 4]
    assert cut.env.tolist() == [0, 0, 1, 1] and cut.window.tolist() == [0, 1, 0, 1]
    assert cut.fresh.tolist() == [False, True, True, False]
    # rows by time: (0,0) (0,1) (1,0) (2,0) (2,1) (3,1) (4,0) (4,1) …
    assert cut.order[:3].tolist() == [0, 2, 3] and cut.order[7:10].tolist() == [1, 4, 5]
