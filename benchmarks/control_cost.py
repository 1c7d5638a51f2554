"""What control costs: CPU seconds of a step under each controller, against the step of plain GRPO.

    python benchmarks/control_cost.py --steps 30 --policy-steps 20

Theory is off: a controller measures and differentiates what it needs itself, on `--control-rows` rollouts. The runs
share the process and take their steps in turn, one thread each, so that a busy machine slows all alike. Ratios are
medians over pairs of steps.
Each run is first taken some steps, for its optimiser and gain to be under way.
"""

import argparse
import statistics
import tempfile
import time
from typing import Any

from trainer.parsing import config_from
from trainer.train import Run

DIRECTIONAL = {"influence": "directional"}
ARMS: dict[str, dict[str, Any]] = {
    "GRPO": {},
    "Algorithm 1": {"filter": "algorithm1"},
    "rejection, tabular": {"filter": "rejection", "denominator": "zero"},
    "soft weights, tabular": {"filter": "soft", "denominator": "zero"},
    "solved bonus, tabular": {"filter": "solved_bonus", "denominator": "zero"},
    "rejection, directional": {"filter": "rejection", "denominator": "zero", "filter_options": DIRECTIONAL},
    "soft weights, directional": {"filter": "soft", "denominator": "zero", "filter_options": DIRECTIONAL},
    "solved bonus, directional": {"filter": "solved_bonus", "denominator": "zero", "filter_options": DIRECTIONAL},
    "entropy bonus 0.03": {"terms": {"entropy_bonus": {"coefficient": 0.03}}},
}


def main() -> None:
    """Take every arm's steps in turn and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--policy-steps", type=int, default=20, help="steps before the first that counts")
    parser.add_argument("--control-rows", type=int, default=16)
    chosen = parser.parse_args()
    total = chosen.policy_steps + chosen.steps
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for index, (name, algorithm) in enumerate(ARMS.items()):
            settings = {
                "output": f"{folder}/{index}",
                "steps": total,
                "algorithm": algorithm,
                "theory": {"enabled": False, "control_rows": chosen.control_rows},
                "band": {"schedule": "constant", "start": [0.6, 0.7], "unit": "nats"},
                "log": {"tensorboard": False},
            }
            runs[name] = Run(config_from(settings), None)
        cpu: dict[str, list[float]] = {name: [] for name in runs}
        for step in range(total):
            for name, run in runs.items():
                began = time.process_time()
                run.step(step)
                cpu[name].append(time.process_time() - began)
        for run in runs.values():
            run.directory.close()
    medians = {name: statistics.median(values[chosen.policy_steps :]) for name, values in cpu.items()}
    print(f"probe of {chosen.control_rows} rollouts, {chosen.steps} steps each, one thread, shipped model")
    for name, median in medians.items():
        pairs = zip(cpu[name][chosen.policy_steps :], cpu["GRPO"][chosen.policy_steps :], strict=True)
        ratio = statistics.median(own / plain for own, plain in pairs)
        print(f"{name:28} {median:.3f} CPU s a step   {ratio:.2f} of GRPO's, median of pairs")


if __name__ == "__main__":
    main()
