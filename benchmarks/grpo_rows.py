"""GRPO advantages of 8,192 rows: one tensor expression against the dictionary of lists common in public trainers.

    python benchmarks/grpo_rows.py [--rows N] [--group-size G]

Both sides get the same rewards, in one process on one thread, in alternation; the medians of the rounds count. The
dictionary form collects scores by group index, takes each group's mean and standard deviation, and then goes over the
rows one by one, as verl's `compute_grpo_outcome_advantage` does.
"""

import argparse
import statistics
import time
from collections import defaultdict

import torch

from trainer.methods.advantages import GRPO

EPS = 1e-6


def by_dictionary(scores: torch.Tensor, index: list[int]) -> torch.Tensor:
    """Return GRPO advantages row by row, groups collected in a dictionary of lists."""
    collected: dict[int, list[torch.Tensor]] = defaultdict(list)
    for row in range(len(scores)):
        collected[index[row]].append(scores[row])
    means, deviations = {}, {}
    for group, values in collected.items():
        stacked = torch.stack(values)
        means[group], deviations[group] = stacked.mean(), stacked.std()
    advantages = scores.clone()
    for row in range(len(scores)):
        advantages[row] = (advantages[row] - means[index[row]]) / (deviations[index[row]] + EPS)
    return advantages


def main() -> None:
    """Measure and print the ratio and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    scores = (torch.rand(chosen.rows, generator=generator) < 0.3).float()
    index = [row // chosen.group_size for row in range(chosen.rows)]
    ours, theirs = [], []
    for _ in range(chosen.rounds):
        began = time.process_time()
        for _ in range(50):
            found = GRPO()(scores.view(-1, chosen.group_size)).flatten()
        ours.append((time.process_time() - began) / 50)
        began = time.process_time()
        expected = by_dictionary(scores, index)
        theirs.append(time.process_time() - began)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(
        f"{chosen.rows} rows in groups of {chosen.group_size}: {1e6 * statistics.median(ours):.0f} us against "
        f"{1e3 * statistics.median(theirs):.0f} ms by dictionary, ratio {ratio:.0f}; largest difference "
        f"{float((found - expected).abs().max()):.1e}"
    )


if __name__ == "__main__":
    main()
