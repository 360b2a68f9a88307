"""What a small network takes as one native call, beside torch's layers one by one.

    python bench/nn/dense_chain.py [--rounds 40] [--write]

One thread, float32, four inputs, hidden layers with tanh, two outputs; both ways in turns, medians over the
rounds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastrl.nn.sequence import run_layers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402
from beside_torch import in_turns  # noqa: E402

HIDDEN, ROWS = ((64, 64), (256, 256)), (8, 64, 256, 2048)


def network(hidden: tuple[int, ...]) -> nn.Sequential:
    """Plain torch layers."""
    sizes = (4, *hidden)
    layers = [
        layer for pair in zip(sizes[:-1], hidden, strict=True) for layer in (nn.Linear(*pair), nn.Tanh())
    ]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 2))


def compare(hidden: tuple[int, ...], rows: int, with_gradient: bool, rounds: int) -> dict[str, Any]:
    """Medians of both ways, and of their ratio within a round."""
    torch.manual_seed(0)
    layers, x, upstream = network(hidden), torch.randn(rows, 4), torch.randn(rows, 2)

    def train(forward: Callable[[], Tensor]) -> Tensor:
        result = forward()
        result.backward(upstream)
        return result

    def act(forward: Callable[[], Tensor]) -> Tensor:
        with torch.no_grad():
            return forward()

    around = train if with_gradient else act
    times = in_turns(
        lambda: around(lambda: run_layers([layers], x)), lambda: around(lambda: layers(x)), rounds, atol=1e-5
    )
    return {"hidden": list(hidden), "rows": rows, "with_gradient": with_gradient, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'hidden':<12}{'rows':>6}{'':>22}{'fastrl µs':>11}{'torch µs':>11}{'× fastrl':>10}")
    results = []
    for hidden in HIDDEN:
        for rows in ROWS:
            for with_gradient in (False, True):
                results.append(row := compare(hidden, rows, with_gradient, options.rounds))
                what = "forward and backward" if with_gradient else "forward"
                times = f"{row['fastrl_us']:>11.1f}{row['torch_us']:>11.1f}{row['times_fastrl']:>10.2f}"
                print(f"{'×'.join(map(str, hidden)):<12}{rows:>6}{what:>22}{times}", flush=True)
    if options.write:
        print("written to", record.write_result("dense-chain", {"threads": 1, "rows": results}))


if __name__ == "__main__":
    main()
