"""Where a trained PPO-TrXL agent looks when it decides: attention over the window at each step of an episode,
as a picture.

    python examples/ppo_trxl_attention.py [--total-steps 25000] [--out attention.png]

Trains on ProofofMemory (two goals are shown for two steps only; the policy has to walk to the good one
later), plays one episode with the most probable actions through the modules' documented `forward`, and draws
each layer's attention: rows are steps of the episode, columns the earlier steps that they may see.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from fastrl.envs import make_vector_env
from fastrl.trainers.ppo_trxl.config import PPOTrXLConfig
from fastrl.trainers.ppo_trxl.trainer import PPOTrXLTrainer

ENV_ID = "ProofofMemory-v0"


def train(total_steps: int) -> PPOTrXLTrainer:
    """The preset of ProofofMemory, trained for so many steps."""
    config = PPOTrXLConfig(env_id=ENV_ID, seed=1, **PPOTrXLConfig.preset(ENV_ID))
    config.eval_interval = config.save_interval = 0
    trainer = PPOTrXLTrainer.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        trainer.train(total_steps=total_steps, out_dir=folder)
    return trainer


@torch.no_grad()
def attention_of_an_episode(trainer: PPOTrXLTrainer, seed: int) -> tuple[torch.Tensor, list[str]]:
    """(attention [L, steps, steps], mean over heads; what was seen at each step) of one episode in an
    environment with this seed."""
    agent, window = trainer.learner.agent, trainer.config.trxl_memory_length
    mask_table, index_table = trainer._build_memory_helpers(
        memory_length=window, max_episode_steps=trainer.max_episode_steps, device=torch.device("cpu")
    )
    attended: list[torch.Tensor] = []  # of each layer, at the present step

    def keep(_: object, __: object, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        attended.append(output[1][0, :, 0].mean(0))  # [window], mean over heads

    hooks = [layer.register_forward_hook(keep) for layer in agent.transformer.layers]
    layers, dim = agent.transformer.num_layers, agent.transformer.dim
    memory = torch.zeros(1, trainer.max_episode_steps, layers, dim)
    rows, seen = [], []
    with make_vector_env(ENV_ID, 1, seed=seed) as env:
        obs, over, step = env.reset(), False, 0
        while not over:
            index = index_table[step][None]
            attended.clear()
            action, _, _, _, left = agent.get_action_and_value(
                obs, memory[:, index[0]], mask_table[min(step, window)][None], index, deterministic=True
            )
            memory[:, step] = left
            spread = torch.zeros(len(attended), trainer.max_episode_steps)
            spread[:, index[0]] = torch.stack(attended)
            rows.append(spread)
            goals = {1.0: "good right", -1.0: "good left", 0.0: "hidden"}[float(obs[0, 2])]
            seen.append(
                f"{step}: at {float(obs[0, 1]):+.1f}, {goals}, goes {'right' if int(action) else 'left'}"
            )
            timestep = env.step(action[:, 0])
            obs, over, step = timestep.obs, bool(timestep.terminated | timestep.truncated), step + 1
    for hook in hooks:
        hook.remove()
    return torch.stack(rows, dim=1)[:, :, : len(rows)], seen


def draw(attention: torch.Tensor, seen: list[str], out: Path) -> None:
    """One panel for each layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 + 2.6 * len(attention), 3.2), layout="constrained")
    panels = figure.subplots(1, len(attention), sharey=True, squeeze=False)[0]
    for number, (axes, layer) in enumerate(zip(panels, attention, strict=True)):
        picture = axes.imshow(layer, vmin=0, vmax=1, cmap="viridis")
        axes.set(title=f"layer {number + 1}", xlabel="earlier step", xticks=range(len(seen)))
    panels[0].set_yticks(range(len(seen)), seen, fontsize=8)
    figure.colorbar(picture, ax=list(panels), label="attention", shrink=0.8)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--total-steps", type=int, default=25_000)
    parser.add_argument("--seed", type=int, default=5, help="of the episode")
    parser.add_argument("--out", type=Path, default=Path("attention.png"))
    arguments = parser.parse_args()
    with train(arguments.total_steps) as trainer:
        draw(*attention_of_an_episode(trainer, arguments.seed), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
