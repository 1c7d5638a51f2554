"""Where the time of a training step goes: rollout, update, theory; and what rejected rows and the theory switch save.

    python benchmarks/step_time.py --steps 30

Shares and ratios are of medians over the steps of one process on one thread, in CPU seconds. The first 3 steps are not
counted.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from trainer.methods.stages import Filtered, Groups
from trainer.parsing import config_from
from trainer.train import Run

WARM_UP = 3
PROMPTS, GROUP = 32, 8


def keep_half(groups: Groups) -> Filtered:
    """Accept every second group."""
    weights = torch.ones_like(groups.advantages)
    weights[::2] = 0
    return Filtered(weights, groups.advantages)


def keep_informative(groups: Groups) -> Filtered:
    """Give every rollout an advantage, so that no row is without gradient."""
    ones = torch.ones_like(groups.advantages)
    ones[:, ::2] = -1
    return Filtered(torch.ones_like(ones), ones)


def measure(name: str, steps: int, **settings: object) -> dict[str, float]:
    """Print and return the medians of one variant, in CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        batch = {"rollout": {"prompts": PROMPTS, "group_size": GROUP}}
        run = Run(config_from({"output": f"{folder}/run", "steps": WARM_UP + steps, **batch, **settings}), None)
        rows, cpu = [], []
        for step in range(WARM_UP + steps):
            began = time.process_time()
            rows.append(run.step(step))
            cpu.append(time.process_time() - began)
        run.directory.close()
    rows, cpu = rows[WARM_UP:], cpu[WARM_UP:]
    median = {key: statistics.median(row[f"time_{key}_s"] for row in rows) for key in ("rollout", "update", "theory")}
    total = statistics.median(cpu)
    parts = "  ".join(f"{key} {value:.3f} s ({value / sum(median.values()):.0%})" for key, value in median.items())
    computed = statistics.mean(row["rows_computed"] for row in rows)
    print(f"{name:34} step {total:.3f} CPU s   {parts}   rows computed {computed:.0f}", flush=True)
    return {"step": total, **median}


def main() -> None:
    """Run every variant and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    steps = parser.parse_args().steps
    here = __name__ if __name__ != "__main__" else Path(__file__).stem
    print(f"P = {PROMPTS}, G = {GROUP}, shipped model, one thread")
    grpo = measure("GRPO", steps)
    off = measure("GRPO, theory off", steps, theory={"enabled": False})
    cheap = measure("GRPO, theory's cheap form", steps, theory={"probe_rows": PROMPTS * GROUP // 32, "tabular": False})
    second = measure("GRPO, second order too", steps, theory={"second_order": True})
    every = measure("every row with gradient", steps, algorithm={"filter": f"{here}:keep_informative"})
    half = measure("half the groups rejected", steps, algorithm={"filter": f"{here}:keep_half"})
    for name, variant in (("theory's cheap form", cheap), ("theory", grpo), ("theory with second order", second)):
        print(f"{name} adds to a step: {variant['step'] / off['step'] - 1:.0%}")
    print(f"update, GRPO's rows against every row: {grpo['update'] / every['update']:.2f}")
    print(f"update, half the groups rejected against GRPO: {half['update'] / grpo['update']:.2f}")


if __name__ == "__main__":
    main()
