"""A training step against TRL's GRPOTrainer: CPU seconds and peak memory at equal work, on a tiny Qwen3.

    python benchmarks/trainer_vs_trl.py [--quick]

A step is 16 prompts x 8 completions, prompts of 8 tokens, completions of 24 (the end token is outside the model's
vocabulary, so that nothing stops early), 0.8 M parameters, float32, one thread, one AdamW step, clip range 0.2, no KL,
mean over tokens. Both sides load one folder and call one reward, which gives a right answer to 4 of each 8 completions,
by a hash of their tokens: every row has an advantage. `half` gives it to every completion of half the prompts, so that
64 of 128 rows have none. The rows with an advantage are counted and checked on both sides.

- `ours`: `trainer.train.Run.step`, with its log, theory off, by the attention that TRL runs too (`sdpa`);
  `ours theory`: with the cheap form of theory, a probe of 4 rows; `ours float64`: by our default attention on the CPU,
  which makes importance ratios of unchanged weights exactly 1;
- `trl`: micro-batches of 128 rows, its default at one accumulation step; `trl best`: 32 rows x 4, the fastest found.
  Gradient checkpointing, its default, is off: it is slower without.

Each variant runs in processes of its own, in turn. CPU seconds a step are the median over the steps of a process, then
over the processes; peak memory is the largest resident size of a process, given beside that after its imports. The
last line is JSON; ratios are ours over TRL's.
"""

import argparse
import importlib.util
import itertools
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from trainer.new_model import word_tokenizer

PROMPTS, GROUP, PROMPT_TOKENS, NEW_TOKENS, VOCABULARY = 16, 8, 8, 24, 64
ROWS, WARM_UP, RATE = PROMPTS * GROUP, 3, 1e-4
TRL = "1.16.0"
# Ratio: its two variants, the quantity, and the target.
RATIOS = {
    "cpu_ratio_all_rows": ("ours", "trl", "cpu_s", 0.90),
    "cpu_ratio_all_rows_best": ("ours", "trl best", "cpu_s", 0.97),
    "cpu_ratio_half_rows": ("ours half", "trl half", "cpu_s", 0.55),
    "rss_ratio": ("ours", "trl", "peak_rss_mb", 0.80),
    "cpu_ratio_theory": ("ours theory", "ours", "cpu_s", None),
    "cpu_ratio_all_rows_float64": ("ours float64", "trl", "cpu_s", None),
}


def reward_for(rows: int) -> Callable[..., list[float]]:
    """Return a reward that gives this many rows an advantage: half of their groups is right; those before all are."""

    def reward(prompts: Any, completions: Any, completion_ids: Sequence[Sequence[int]], **columns: Any) -> list[float]:
        hashes = [zlib.crc32(bytes(ids)) for ids in completion_ids]
        right = [1.0] * (ROWS - rows)
        for start in range(len(right), ROWS, GROUP):
            group = hashes[start : start + GROUP]
            right += [float(value > sorted(group)[GROUP // 2 - 1]) for value in group]
        return right

    return reward


def make_inputs(folder: Path, steps: int, seed: int) -> None:
    """Write the model and the prompts that both sides load."""
    words = [f"w{index}" for index in range(VOCABULARY - 2)]  # beside the end and the unknown token
    tokenizer = word_tokenizer(words, context_length=256)
    tokenizer.add_special_tokens({"eos_token": "<outside>"})  # with an id above those that the model can draw
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(seed)
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 384, "max_position_embeddings": 256}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "tie_word_embeddings": True}
    ids = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    model = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(vocab_size=VOCABULARY, **sizes, **heads, **ids))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    drawn = random.Random(seed)
    rows = [{"prompt": " ".join(drawn.choices(words, k=PROMPT_TOKENS))} for _ in range(PROMPTS * steps)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def ours(
    folder: Path, steps: int, seed: int, *, rows: int = ROWS, theory: bool = False, attention: str = "sdpa"
) -> dict[str, Any]:
    """Return the CPU seconds of each step of our trainer, and its memory."""
    from trainer.parsing import config_from
    from trainer.train import Run

    imported = peak_rss()
    with tempfile.TemporaryDirectory() as output:
        settings = {
            "output": f"{output}/run",
            "steps": steps,
            "seed": seed,
            "model": {"path": str(folder / "model"), "device": "cpu", "attention": attention, "threads": 1},
            "data": {"prompts": str(folder / "prompts.jsonl")},
            "rollout": {"prompts": PROMPTS, "group_size": GROUP, "max_new_tokens": NEW_TOKENS},
            "algorithm": {"mini_batches": 1, "clip_options": {"low": 0.2, "high": 0.2}},
            "optimizer": {"learning_rate": RATE},
            "theory": {"enabled": theory, "probe_rows": 4, "tabular": False},
            "evaluation": {"prompts": 0},
            "log": {"tensorboard": False},
        }
        run = Run(config_from(settings), reward_for(rows))
        seconds = []
        for step in range(steps):
            began = time.process_time()
            row = run.step(step)
            seconds.append(time.process_time() - began)
            assert (row["rows_computed"], row["response_length"]) == (rows, NEW_TOKENS), row
        run.directory.close()
    return {"seconds": seconds, "imports_rss_mb": imported}


def trl(folder: Path, steps: int, seed: int, *, rows: int = ROWS, micro_batch: int = ROWS) -> dict[str, Any]:
    """Return the CPU seconds of each step of TRL's trainer, and its memory."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    imported = peak_rss()
    ends = [time.process_time()]
    counts = {"rows": 0, "tokens": 0}

    class Counting(GRPOTrainer):
        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            counts["rows"] += int((inputs["advantages"] != 0).sum())
            counts["tokens"] += int(inputs["completion_mask"].sum())
            return super()._compute_loss(model, inputs)

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.process_time())
            assert counts == {"rows": rows, "tokens": ROWS * NEW_TOKENS}, counts
            counts.update(rows=0, tokens=0)

    with tempfile.TemporaryDirectory() as output:
        config = GRPOConfig(
            output_dir=output,
            use_cpu=True,
            bf16=False,
            seed=seed,
            max_steps=steps,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=ROWS // micro_batch,
            num_generations=GROUP,
            max_completion_length=NEW_TOKENS,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            epsilon=0.2,
            beta=0.0,
            loss_type="dapo",
            gradient_checkpointing=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Counting(
            model=transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32),
            reward_funcs=reward_for(rows),
            args=config,
            train_dataset=Dataset.from_json(str(folder / "prompts.jsonl"), cache_dir=output),
            processing_class=transformers.AutoTokenizer.from_pretrained(folder / "model"),
            callbacks=[Clock()],
        ).train()
    return {"seconds": [end - start for start, end in itertools.pairwise(ends)], "imports_rss_mb": imported}


VARIANTS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {
    "ours": ours,
    "trl": trl,
    "ours theory": lambda *arguments: ours(*arguments, theory=True),
    "trl best": lambda *arguments: trl(*arguments, micro_batch=32),
    "ours float64": lambda *arguments: ours(*arguments, attention="sdpa_float64"),
    "ours half": lambda *arguments: ours(*arguments, rows=ROWS // 2),
    "trl half": lambda *arguments: trl(*arguments, rows=ROWS // 2),
}


def peak_rss() -> float:
    """Return the largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(variant: str, folder: Path, steps: int, seed: int) -> dict[str, float]:
    """Run a variant in this process and return its medians."""
    torch.set_num_threads(1)
    found = VARIANTS[variant](folder, steps, seed)
    cpu = statistics.median(found["seconds"][WARM_UP:])
    return {"cpu_s": cpu, "peak_rss_mb": peak_rss(), "imports_rss_mb": found["imports_rss_mb"]}


def in_own_process(variant: str, folder: Path, steps: int, seed: int) -> dict[str, float]:
    """Run a variant in a process of its own and return its medians."""
    quiet = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    arguments = {"--child": variant, "--folder": folder, "--steps": steps, "--seed": seed}
    command = [sys.executable, __file__, *(str(part) for pair in arguments.items() for part in pair)]
    done = subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{variant} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure every variant in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, help=f"of a process; the first {WARM_UP} are not counted")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="6 steps in one process each")
    for name, kind in (("--child", str), ("--folder", Path)):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(json.dumps(child(chosen.child, chosen.folder, chosen.steps, chosen.seed)))
        return
    if importlib.util.find_spec("trl") is None:
        raise SystemExit(f"This compares with TRL, which is not installed. Install it beside: pip install trl=={TRL}")
    if chosen.steps <= WARM_UP or chosen.processes < 1:
        parser.error(f"--steps must be above {WARM_UP} and --processes at least 1")
    steps, processes = (6, 1) if chosen.quick else (chosen.steps, chosen.processes)
    found: dict[str, list[dict[str, float]]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        make_inputs(Path(folder), steps, chosen.seed)
        for _ in range(processes):
            for variant, results in found.items():
                results.append(in_own_process(variant, Path(folder), steps, chosen.seed))
    medians = {
        variant: {key: round(statistics.median(result[key] for result in results), 4) for key in results[0]}
        for variant, results in found.items()
    }
    for variant, median in medians.items():
        lowest, highest = (choose(result["cpu_s"] for result in found[variant]) for choose in (min, max))
        print(
            f"{variant:12} {median['cpu_s']:.3f} CPU s a step ({lowest:.3f} to {highest:.3f})   "
            f"{median['peak_rss_mb']:.0f} MB at most, {median['imports_rss_mb']:.0f} MB after imports"
        )
    ratios = {name: medians[one][key] / medians[other][key] for name, (one, other, key, _) in RATIOS.items()}
    for name, (one, other, key, target) in RATIOS.items():
        print(f"{name:24} {one} / {other}, {key}: {ratios[name]:.3f}" + (f"   (target {target:.2f})" if target else ""))
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "accelerate")}
    setting = {"versions": versions, "processes": processes, "steps": steps, "warm_up": WARM_UP}
    print(json.dumps({**{name: round(value, 4) for name, value in ratios.items()}, "medians": medians, **setting}))


if __name__ == "__main__":
    main()
