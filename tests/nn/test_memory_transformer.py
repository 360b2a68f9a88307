"""The Transformer-XL over an episode's memory: hand-computed parts, and the two ways that lead to the same
numbers."""

import itertools
import math

import pytest
import torch

from fastrl.errors import SettingError
from fastrl.nn.memory_attention import MultiHeadAttention, Window
from fastrl.nn.memory_layer import GRUGate, TransformerLayer
from fastrl.nn.memory_transformer import Transformer
from fastrl.nn.positions import ENCODINGS, PositionalEncoding, Rotation


def test_sinusoids_count_down_to_zero():
    encoding = PositionalEncoding(4, min_timescale=2.0, max_timescale=8.0)(3)
    expected = [
        [math.sin(p / 2), math.sin(p / 4), math.cos(p / 2), math.cos(p / 4)] for p in (2, 1, 0)
    ]  # √(2 · 8) = 4
    torch.testing.assert_close(encoding, torch.tensor(expected))


def test_odd_dimensions_have_no_sinusoids():
    with pytest.raises(SettingError, match="trxl_dim must be even"):
        PositionalEncoding(5)
    with pytest.raises(SettingError, match="must be even for relative"):
        Rotation(3)


@pytest.mark.parametrize("shift", [0, 1000, 10**9])
def test_rotated_products_depend_on_distances_alone(shift):
    rotation = Rotation(6)
    query, key = torch.randn(2, 3, 6).unbind()

    def products(query_at, key_at):
        return (rotation(query, torch.tensor(query_at)) * rotation(key, torch.tensor(key_at))).sum(-1)

    torch.testing.assert_close(products(7 + shift, 3 + shift), products(7, 3), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(products(8, 3), products(7, 3))


@pytest.mark.parametrize("shared", [False, True])
def test_attention_is_softmax_over_scores_scaled_by_the_root_of_the_head_size(shared):
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, shared_head_projection=shared)
    values, keys, query = torch.randn(3, 2, 5, 8).unbind()
    mask = torch.tensor([[True, True, False, False, True], [True] * 5])
    out, weights = attention(values, keys, query, mask)
    with torch.no_grad():
        for b, q, h in itertools.product(range(2), range(5), range(2)):
            part = slice(4 * h, 4 * h + 4)

            def head(rows, layer, part=part):
                return layer(rows[..., part]) if shared else layer(rows)[..., part]

            scores = head(keys[b], attention.keys) @ head(query[b, q], attention.queries) / math.sqrt(4)
            expected = torch.softmax(scores.masked_fill(~mask[b], -math.inf), 0)
            torch.testing.assert_close(weights[b, h, q], expected)
        heads = attention.heads(values, attention.values)
        joined = torch.einsum("bhqw,bwhk->bqhk", weights, heads).flatten(2)
        torch.testing.assert_close(out, attention.fc_out(joined))


def test_who_sees_nothing_gets_nothing():
    """And not the mean of slots that were never written."""
    attention = MultiHeadAttention(4, 2)
    garbage = torch.full((1, 3, 4), 1e9)
    out, weights = attention(garbage, garbage, torch.randn(1, 1, 4), torch.zeros(1, 3, dtype=torch.bool))
    assert not weights.any()
    torch.testing.assert_close(out[0, 0], attention.fc_out.bias)


def test_the_layer_normalises_before_each_part():
    torch.manual_seed(1)
    layer = TransformerLayer(8, 2)
    memory, query = torch.randn(2, 5, 8), torch.randn(2, 1, 8)
    out, _ = layer(memory, memory, query, None)
    norm = torch.nn.functional.layer_norm
    attended, _ = layer.attention(norm(memory, (8,)), norm(memory, (8,)), layer.norm_query(query), None)
    between = query + attended
    torch.testing.assert_close(out, between + torch.relu(layer.feedforward(layer.norm_feedforward(between))))


def test_the_gate_is_near_the_identity_at_first_and_takes_all_when_open():
    torch.manual_seed(2)
    gate, x, y = GRUGate(4, bias=30.0), torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(gate(x, y), x)
    with torch.no_grad():
        gate.bias.fill_(-30.0)
        reset = torch.sigmoid(gate.from_update(y)[:, :4] + gate.from_input(x)[:, :4])
        torch.testing.assert_close(
            gate(x, y), torch.tanh(gate.from_update(y)[:, 8:] + gate.from_reset_input(reset * x))
        )


W, SLOTS, LIMIT = 4, 9, 12
CHOICES = [
    {"positional_encoding": encoding, "num_heads": heads, "gating": gating, "shared_head_projection": shared}
    for encoding, heads, gating, shared in itertools.product(
        ENCODINGS, (1, 2), ("residual", "gru"), (False, True)
    )
    if not (shared and heads == 1)
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(map(str, choice.values())))
def test_reading_a_bank_equals_attending_over_windows(choice):
    """At p = 0, p < W, p = W and p > W; and so do the gradients of all parameters."""
    torch.manual_seed(3)
    transformer = Transformer(2, 8, max_episode_steps=LIMIT, **choice)
    memory = torch.randn(2, 3, SLOTS, 8)  # [L, E, S, D], slot s holding step s
    positions = torch.arange(SLOTS).repeat(3, 1)
    p = torch.tensor([0, 2, 4, 7, 9])
    episode = torch.tensor([0, 1, 2, 1, 0])
    first = (p - W).clamp(min=0)
    index = first[:, None] + torch.arange(W)
    mask = torch.arange(W) < p[:, None]
    x = torch.randn(5, 8)
    normalized = transformer.normalize(memory, positions)
    banks = [transformer.bank(number, normalized[number], positions) for number in range(2)]
    fast, fast_memory = transformer.read(x, banks, Window(episode, index, mask, p), transformer.maps())
    windows = memory.permute(1, 2, 0, 3)[episode[:, None], index]  # [B, W, L, D]
    slow, slow_memory = transformer(x, windows, mask, index)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(fast_memory.transpose(0, 1), slow_memory)
    weights = torch.randn_like(fast)
    parameters = list(transformer.parameters())
    by_fast = torch.autograd.grad((fast * weights).sum(), parameters)
    by_slow = torch.autograd.grad((slow * weights).sum(), parameters)
    for one, other in zip(by_fast, by_slow, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_new_memory_is_what_the_layers_were_given_and_carries_no_gradient():
    transformer = Transformer(2, 4, 1, 5, "none")
    x = torch.randn(3, 4, requires_grad=True)
    _, memory = transformer(
        x, torch.zeros(3, 2, 2, 4), torch.zeros(3, 2, dtype=torch.bool), torch.zeros(3, 2, dtype=torch.int64)
    )
    torch.testing.assert_close(memory[:, 0], x)
    assert not memory.requires_grad


def test_no_layers_change_nothing():
    transformer = Transformer(0, 4, 1, 5, "absolute")
    x = torch.randn(3, 4)
    out, memory = transformer(
        x, torch.zeros(3, 2, 0, 4), torch.ones(3, 2, dtype=torch.bool), torch.zeros(3, 2, dtype=torch.int64)
    )
    assert out is x and memory.shape == (3, 0, 4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((1, 6, 4, 5, "none"), "trxl_num_heads must divide trxl_dim"),
        ((1, 7, 1, 5, "absolute"), "trxl_dim must be even"),
        ((1, 6, 2, 5, "relative"), "must be even for relative"),
        ((1, 8, 2, 5, "absolut"), "trxl_positional_encoding.*did you mean"),
        ((1, 8, 2, 0, "learned"), "max_episode_steps must be at least 1"),
    ],
)
def test_bad_sizes_and_names_are_named(arguments, words):
    with pytest.raises(SettingError, match=words):
        Transformer(*arguments)


def test_an_unknown_gating_is_named():
    with pytest.raises(SettingError, match="trxl_gating"):
        Transformer(1, 4, 1, 5, "none", gating="lstm")
