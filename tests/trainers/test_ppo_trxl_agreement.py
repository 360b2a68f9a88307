"""Acting, learning and the documented modules see the same memory, on every row."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from trxl_cases import AllAtOnce, Shadow, counters, make_trainer, one_round

from fastrl.data.memory_bank import BankReader
from fastrl.envs.single import SingleEnv

VARIANTS = [
    {},
    {"trxl_num_heads": 1},
    {"trxl_positional_encoding": "learned"},
    {"trxl_positional_encoding": "relative", "trxl_gating": "gru"},
    {"trxl_positional_encoding": "none", "shared_head_projection": True},
    {"trxl_positional_encoding": "relative", "endless": True},
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
@pytest.mark.parametrize("lengths", [[3, 4, 5, 30], [16, 8, 1, 2]])
def test_acting_learning_and_the_documented_modules_agree(variant, lengths):
    """On every row, resets included, over three rollouts whose weights differ; so the first ratios of an
    update are 1."""
    require_agreement(counters(lengths), **variant)


@pytest.mark.parametrize("variant", [{}, {"trxl_num_heads": 1}], ids=str)
@pytest.mark.parametrize("mode", gym.vector.AutoresetMode)
def test_they_agree_where_rows_are_held_while_others_are_reset(mode, variant):
    """SAME_STEP and DISABLED: a held row is no transition, though its episode goes on; it must not push the
    oldest step out of memory."""

    def factory():
        return AllAtOnce(
            [lambda n=n: SingleEnv("Counter-v0", length=n) for n in (3, 4, 11, 30)], autoreset_mode=mode
        )

    require_agreement(factory, endless=True, trxl_positional_encoding="relative", **variant)


def require_agreement(factory, **variant):
    with make_trainer(factory, **variant) as trainer:
        shadow = Shadow(trainer)
        ended = np.zeros(4, bool)
        for _ in range(3):
            trainer.collect()
            rollout = trainer.rollout
            for t in range(16):
                log_probs, values = shadow.row(rollout.obs[t], rollout.actions[t, :, None])
                torch.testing.assert_close(rollout.extras["log_probs"][t], log_probs, atol=1e-5, rtol=1e-5)
                torch.testing.assert_close(rollout.extras["values"][t], values, atol=1e-5, rtol=1e-5)
                shadow.after(rollout.valid[t].tolist(), ended)
                ended = (rollout.terminated[t] | rollout.truncated[t]).numpy()
            _, following = shadow.row(rollout.obs[16], rollout.actions[15, :, None])
            torch.testing.assert_close(trainer.bootstrap_values, following, atol=1e-5, rtol=1e-5)

            trainer.estimate()
            reader = BankReader(trainer.learner.agent.transformer, trainer.bank)
            rows = trainer.rows
            maps = trainer.learner.agent.transformer.maps()
            policy, values, _, _ = trainer.learner.agent.read(
                rows.obs, reader.banks(None), reader.window(rows.env, rows.slot, rows.position, None), maps
            )

            torch.testing.assert_close(policy.log_prob(rows.actions), rows.log_probs, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(values, rows.values, atol=1e-5, rtol=1e-5)
            # what was left behind under these weights stays, and mixes with what the next ones leave
            trainer.learn()


def test_the_bootstrap_value_is_bit_for_bit_what_acting_returns_on_that_row():
    """With windows that are full (p ≥ W), not yet full, and on a row that shows a last observation."""
    with make_trainer(counters([30, 2, 16, 5])) as trainer:
        for _ in range(3):
            trainer.collect()
            bootstrap = trainer.bootstrap_values.clone()
            # the same weights: the next rollout's first row is the one that was bootstrapped from
            trainer.collect()
            assert torch.equal(trainer.rollout.extras["values"][0], bootstrap)


def test_refreshed_memory_is_what_the_present_weights_would_have_left():
    """As long as all steps that were seen are still there; in a ring of W they are for as long as the episode
    is no longer than W."""
    with make_trainer(
        counters([30, 30, 12, 9]), trxl_memory_length=12, num_steps=8, memory_refresh="rollout"
    ) as trainer:
        one_round(trainer)
        trainer.memory.start()
        position = trainer.acting.memory.clock.position.clone()
        assert position.tolist() == [8, 8, 8, 8]
        tokens, _ = trainer.bank.recent()
        shadow = Shadow(trainer)
        for t in range(8):
            shadow.row(trainer.rollout.obs[t], trainer.rollout.actions[t, :, None])
            shadow.after([True] * 4, [False] * 4)
        left = torch.stack([torch.stack(past) for past in shadow.past]).permute(2, 0, 1, 3)  # [L, N, 8, D]
        stored = trainer.learner.agent.transformer.stored(left, torch.arange(8).expand(4, 8))
        torch.testing.assert_close(tokens[:, :, 4:], stored, atol=1e-5, rtol=1e-5)
