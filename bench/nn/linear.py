"""What `fastrl.nn.linear.product` takes for a layer's matrix product, beside torch's own.

    python bench/nn/linear.py [--rounds 60] [--write]

One thread, float32, both in turns, so that a busy machine slows both alike; medians over the rounds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from fastrl.nn.linear import product

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import record  # noqa: E402
from beside_torch import in_turns  # noqa: E402

SIZES = ((16, 512, 256), (1024, 512, 256), (1024, 64, 64))  # rows, features in, features out


def compare(rows: int, features_in: int, features_out: int, rounds: int) -> dict[str, Any]:
    """Medians of both, their ratio within a round, and the rates."""
    generator = torch.Generator().manual_seed(0)
    x, w = (
        torch.randn(rows, features_in, generator=generator),
        torch.randn(features_out, features_in, generator=generator),
    )
    times = in_turns(lambda: product(x, w), lambda: x @ w.T, rounds, atol=1e-3)
    operations = 2 * rows * features_in * features_out
    rates = {f"{name}_gflop_per_s": operations / times[f"{name}_us"] / 1e3 for name in ("fastrl", "torch")}
    return {"sizes": [rows, features_in, features_out], **times, **rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--write", action="store_true", help="store the result under bench/results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'rows, in, out':<18}{'fastrl µs':>11}{'torch µs':>11}{'× fastrl':>10}"
        f"{'fastrl GFLOP/s':>16}{'torch GFLOP/s':>15}"
    )
    results = []
    for sizes in SIZES:
        results.append(row := compare(*sizes, options.rounds))
        times = f"{row['fastrl_us']:>11.2f}{row['torch_us']:>11.2f}{row['times_fastrl']:>10.2f}"
        rates = f"{row['fastrl_gflop_per_s']:>16.0f}{row['torch_gflop_per_s']:>15.0f}"
        print(f"{'×'.join(map(str, sizes)):<18}{times}{rates}", flush=True)
    if options.write:
        print("written to", record.write_result("linear", {"threads": 1, "rows": results}))


if __name__ == "__main__":
    main()
