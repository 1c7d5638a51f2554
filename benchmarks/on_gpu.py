"""What a GPU changes: whether runs on it are right, how fast they are, and what memory they take of the forecast.

    python benchmarks/on_gpu.py [--device cuda] [--steps 20] [--only speed]

- `same`: a step of the shipped model on the device and on the CPU, in float32 and from the same draws: what differs in
  entropy, loss, and predicted and measured change; and sampler against trainer. Not in float64: transformers' norms and
  angles of positions are float32 in any type.
- `resume`: a controlled run of 6 steps in one go against 3 and, from a checkpoint, 3 more: which logged numbers differ.
- `prediction`: what share of the measured changes of entropy the first and the second order explain, step by step.
- `speed`: medians of a step's rollout, update and theory for models of several sizes, tokens a second, and peak memory
  beside what `--dry-run` foretells; `shared prompts`: the update computes the prompt of every group, not of every row.
  Every row has an advantage. Weights are random but for the shipped model's, so that completions have their greatest
  length.

Models are made on the spot; nothing is downloaded. A check that fails is said so, the others go on, and the exit status
is 1.
"""

import argparse
import itertools
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import step_time
import torch
import transformers
from kill_and_resume import TIMED

from trainer.dry_run import GIB
from trainer.estimate import peak
from trainer.forecast import forecast
from trainer.methods.recipes import training_settings
from trainer.model import Policy
from trainer.new_model import new_qwen3, word_tokenizer
from trainer.parsing import config_from
from trainer.tasks.countdown import WORDS
from trainer.train import Run
from trainer.workers import inner

WARM_UP = 2
# Every row has an advantage.
INFORMATIVE = {"algorithm": {"filter": f"{step_time.__name__}:{step_time.keep_informative.__name__}"}}
RESUME_STEPS = 6
COMPARED = ("entropy_t1", "reward_mean", "loss", "grad_norm", "dH_measured", "dH_first_order", "dH_second_order")
# What the tests allow two ways of scoring in float32; a step changes entropy by some 6e-3.
FLOAT32 = 1e-5


def settings(folder: Path, **given: Any) -> dict[str, Any]:
    """Return the settings of a run without evaluations and checkpoints."""
    quiet = {"checkpoint": {"every": 0, "rollouts_every": 0}, "log": {"tensorboard": False}}
    return {"output": str(folder / "run"), "evaluation": {"prompts": 0}, **quiet, **given}


def steps_of(run: Run, first: int, last: int) -> list[dict[str, Any]]:
    """Take steps of a run and return their rows."""
    return [run.step(step) for step in range(first, last)]


def rows_of(*, least: int | None = None, **given: Any) -> list[dict[str, Any]]:
    """Return the rows of a whole run; prompts are shared where that saves so many tokens, None as the model has it."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config_from(settings(Path(folder), **given)), None)
        network: Any = inner(run.network)
        network.least_saved = network.least_saved if least is None else least
        rows = steps_of(run, 0, run.config.steps)
        run.directory.close()
    return rows


def check_same(device: str, steps: int) -> bool:
    """Compare a step on the device with the same one on the CPU."""
    there, here = (
        rows_of(steps=1, model={"device": place}, theory={"second_order": True})[0] for place in (device, "cpu")
    )
    differences = {name: abs(there[name] - here[name]) for name in COMPARED}
    print("  " + ", ".join(f"{name} {value:.1e}" for name, value in differences.items()))
    print(f"  sampler against trainer at unchanged weights: {there['log_prob_gap']:.1e}")
    return max(differences.values()) <= FLOAT32


def check_resume(device: str, steps: int) -> bool:
    """Compare a run in one go with one that goes on from a checkpoint."""
    held = []
    for stops in ((RESUME_STEPS,), (RESUME_STEPS // 2, RESUME_STEPS)):
        rows: list[dict[str, Any]] = []
        with tempfile.TemporaryDirectory() as folder:
            given = {**training_settings("solved_bonus"), "steps": RESUME_STEPS, "resume": True}
            for stop in stops:
                run = Run(config_from(settings(Path(folder), model={"device": device}, **given)), None)
                rows += steps_of(run, run.state.step, stop)
                run.save()
                run.directory.close()
        held.append([{name: value for name, value in row.items() if not TIMED.search(name)} for row in rows])
    differing = sorted({name for one, two in zip(*held, strict=True) for name in one if one[name] != two[name]})
    print(f"  {len(held[0])} steps in one go and {len(held[1])} in two; numbers that differ: {differing or 'none'}")
    return not differing


def check_prediction(device: str, steps: int) -> bool:
    """Compare predicted with measured changes of entropy."""
    rows = rows_of(steps=2 * steps, model={"device": device}, theory={"second_order": True})
    rows = [row for row in rows if row["dH_measured"] is not None]
    total = sum(row["dH_measured"] ** 2 for row in rows)
    first = sum((row["dH_measured"] - row["dH_first_order"]) ** 2 for row in rows)
    second = sum((row["dH_measured"] - row["dH_first_order"] - row["dH_second_order"]) ** 2 for row in rows)
    print(f"  {len(rows)} steps: first order {1 - first / total:.4f}, with the second {1 - second / total:.5f}")
    return second < first < total


def report_speed(device: str, steps: int) -> bool:
    """Print where the time of a step goes, by size."""
    countdown = {"rollout": {"prompts": 32, "group_size": 8}, "data": {"task": "countdown_hard"}}
    large = {"rollout": {"prompts": 64, "group_size": 16}}
    reasoning = {
        "rollout": {"prompts": 16, "group_size": 8, "max_new_tokens": 256},
        "optimizer": {"micro_batch_rows": 16},
    }
    # Name: the model (None: the shipped one), its type, and settings.
    cases: dict[str, tuple[Callable[[], Policy] | None, str, dict[str, Any]]] = {
        "0.2 M": (None, "float32", countdown),
        "0.2 M, no theory": (None, "float32", {**countdown, "theory": {"enabled": False}}),
        "1.3 M": (lambda: countdown_model(128, 6, 8, 512), "float32", countdown),
        "50 M": (lambda: countdown_model(512, 12, 8, 2048), "float32", large),
        "50 M bfloat16": (lambda: countdown_model(512, 12, 8, 2048), "bfloat16", large),
    }
    if device != "cpu":
        cases["0.6 B bfloat16"] = (qwen3_of_0_6_b, "bfloat16", reasoning)
    for name, (make, dtype, given) in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            model = {"device": device, "dtype": dtype}
            if make is not None:
                model["path"] = str(Path(folder) / "model")
                make().save(Path(model["path"]))
            for how, least in (("", None), (", shared prompts", 1)):
                measured(name + how, {"steps": WARM_UP + steps, **INFORMATIVE, **given, "model": model}, least)
    return True


def measured(name: str, given: Mapping[str, Any], least: int | None) -> None:
    """Print the medians of a run's steps, and its memory on a GPU."""
    on_gpu = given["model"]["device"] != "cpu"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    rows = rows_of(least=least, **given)[WARM_UP:]
    times = {key: statistics.median(row[f"time_{key}_s"] for row in rows) for key in ("rollout", "update", "theory")}
    whole = sum(times.values())
    tokens = statistics.median(after["tokens"] - before["tokens"] for before, after in itertools.pairwise(rows))
    parts = ", ".join(f"{key} {1000 * value:.0f}" for key, value in times.items())
    told = f"  {name:32} step {1000 * whole:6.0f} ms ({parts}), {tokens / whole:8.0f} tokens/s"
    if on_gpu:
        told += f", sampler {tokens / times['rollout']:8.0f}"
        with tempfile.TemporaryDirectory() as folder:
            foretold = peak(forecast(config_from(settings(Path(folder), **given)), accelerator=True).items) / GIB
        told += f"; peak {torch.cuda.max_memory_allocated() / GIB:.2f} GiB, foretold {foretold:.2f}"
    print(told, flush=True)


def countdown_model(hidden: int, layers: int, heads: int, feed_forward: int) -> Policy:
    """Return a random model for countdown."""
    sizes = {"hidden": hidden, "layers": layers, "heads": heads, "feed_forward": feed_forward}
    return new_qwen3(word_tokenizer(WORDS, context_length=64), context_length=64, seed=0, **sizes)


def qwen3_of_0_6_b() -> Policy:
    """Return a random model of Qwen3-0.6B's shape, which reads countdown's prompts."""
    tokenizer = word_tokenizer(WORDS, context_length=1024)
    sizes = {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "head_dim": 128}
    heads = {"num_attention_heads": 16, "num_key_value_heads": 8}
    ends = {"eos_token_id": 0, "pad_token_id": 0, "bos_token_id": None}
    config = transformers.Qwen3Config(
        vocab_size=151936, max_position_embeddings=1024, tie_word_embeddings=True, **sizes, **heads, **ends
    )
    return Policy(transformers.Qwen3ForCausalLM(config).eval(), tokenizer, (0,), 1024)


CHECKS = {"same": check_same, "resume": check_resume, "prediction": check_prediction, "speed": report_speed}


def main() -> int:
    """Run every check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--only", choices=CHECKS)
    chosen = parser.parse_args()
    where = "CPU" if chosen.device == "cpu" else torch.cuda.get_device_name()
    print(f"{where}, torch {torch.__version__}, transformers {transformers.__version__}")
    failed = []
    for name, check in CHECKS.items():
        if chosen.only in (None, name):
            print(name, flush=True)
            began, fine = time.perf_counter(), False
            try:
                fine = check(chosen.device, chosen.steps)
            except Exception:  # the other checks are worth having all the same
                traceback.print_exc()
            print(f"  {'as it should be' if fine else 'NOT as it should be'} ({time.perf_counter() - began:.0f} s)")
            failed += [] if fine else [name]
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
