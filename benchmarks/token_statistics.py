"""Statistics of every token over large vocabularies: tokens a second and memory, against the plain way.

    python benchmarks/token_statistics.py
    python benchmarks/token_statistics.py --device cuda

The plain way is what trainers do: log_softmax, the token's log-probability, -(exp(logp) * logp).sum(-1). It gives
log p_k and H only, the others n_2, S_k and N too. `fused` starts at hidden states and the output matrix; its baseline
makes all logits from them, then goes the plain way. The pass with gradients is of log_prob.sum() + entropy.sum().

- speed: tokens a second over the baseline's, from medians of wall time over repeats in which the variants take turns;
  above 1 is faster. On a CPU, `cpu` is the same from the CPU seconds of all threads. Threads that wait for one another
  slow the variants of many small steps down the most: where other processes run, believe --threads 1.
- extra: peak memory beyond the inputs as a multiple of the logits' bytes; it includes the gradients.
  On a CPU the growth of the largest resident size in a fresh process, over at least 256 MiB of logits.
- read: on an accelerator, the bytes of one read of the logits over the time in GB/s, and over the bandwidth of a copy,
  which counts a read and a write.

Targets: from 32000 arms on, not slower than the baseline; forward, extra below 0.3 for `chunked` (so that logits and
extra stay below 1.3) and below 0.2 for `fused`. With gradients `fused` makes the logits twice, so that it multiplies
matrices four times where its baseline does three times: it is faster by what it saves elsewhere.
"""

import argparse
import math
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from entropy_theory import TokenStatistics, chunked_token_statistics, fused_token_statistics, token_statistics

Pair = tuple[Tensor, Tensor]

MEMORY_BYTES = 256 * 2**20  # logits that a resident size is read over
DISTINCT = 2**22  # numbers of an input that are drawn
LARGE = 32_000  # arms from which on the speed has a target
WIDTHS = {106: 64, 32_000: 1024, 151_936: 1024}  # vocabulary: hidden width
TOKENS = {"cpu": (2**17, 768, 384), "cuda": (2**22, 2**15, 2**13)}


@dataclass(frozen=True)
class Case:
    """What the variants are measured on."""

    vocabulary: int
    tokens: int
    dtype: torch.dtype
    device: str

    @property
    def logits_bytes(self) -> int:
        """Bytes of the logits."""
        return self.tokens * self.vocabulary * self.dtype.itemsize


def plain_way(logits: Tensor, token: Tensor) -> Pair:
    """Return log p_k and H as trainers compute them."""
    logp = logits.float().log_softmax(-1)
    log_prob = logp.gather(-1, token[:, None])[:, 0]
    return log_prob, -(logp.exp() * logp).sum(-1)


def differentiable(found: TokenStatistics) -> Pair:
    """Return the two fields that a loss is made of."""
    return found.log_prob, found.entropy


@dataclass(frozen=True)
class Variant:
    """One way to the statistics.

    Args:
        compute: from the logits, or from hidden states and the output matrix, and the tokens, to log p_k and H.
        baseline: the variant it is compared with.
        from_hidden: whether it starts at hidden states.
        extra: its target, the largest forward memory beyond the inputs over the logits' bytes; it then has one for the
            speed, too.
    """

    compute: Callable[..., Pair]
    baseline: str | None = None
    from_hidden: bool = False
    extra: float | None = None


VARIANTS = {
    "plain way": Variant(plain_way),
    "token_statistics": Variant(lambda z, k: differentiable(token_statistics(z.float(), k)), "plain way"),
    "chunked": Variant(lambda z, k: differentiable(chunked_token_statistics(z, k)), "plain way", extra=0.3),
    "product, plain way": Variant(lambda h, w, k: plain_way(h @ w.T, k), from_hidden=True),
    "fused": Variant(
        lambda h, w, k: differentiable(fused_token_statistics(h, w, k)),
        "product, plain way",
        from_hidden=True,
        extra=0.2,
    ),
}


def filled(rows: int, columns: int, std: float, case: Case) -> Tensor:
    """Return normal numbers, repeated every few million, in memory that nothing else was held for."""
    tensor = torch.empty(rows, columns, dtype=case.dtype, device=case.device)
    first, *rest = tensor.split(max(1, DISTINCT // columns))
    first.normal_(std=std)
    for part in rest:
        part.copy_(first[: len(part)])
    return tensor


def inputs(case: Case, from_hidden: bool) -> tuple[list[Tensor], Tensor]:
    """Return the leaves and the tokens."""
    token = torch.randint(case.vocabulary, (case.tokens,), device=case.device)
    if not from_hidden:
        return [filled(case.tokens, case.vocabulary, 3.0, case)], token
    width = WIDTHS[case.vocabulary]
    hidden = filled(case.tokens, width, 1.0, case)
    return [hidden, filled(case.vocabulary, width, 3 / math.sqrt(width), case)], token


def run(variant: Variant, leaves: list[Tensor], token: Tensor, backward: bool) -> None:
    """Compute log p_k and H once and, if wanted, the gradient of their sum."""
    for leaf in leaves:
        leaf.requires_grad_(backward)
    with torch.set_grad_enabled(backward):
        log_prob, entropy = variant.compute(*leaves, token)
        if backward:
            torch.autograd.grad(log_prob.sum() + entropy.sum(), leaves)


def warm_up(case: Case, variant: Variant) -> None:
    """Start threads, allocator and kernels on a few tokens of the smallest vocabulary."""
    leaves, token = inputs(replace(case, vocabulary=min(WIDTHS), tokens=64), variant.from_hidden)
    run(variant, leaves, token, backward=True)


def resident() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peaks(case: Case, name: str, threads: int) -> list[float]:
    """Return the extra memory forward and with gradients; on a CPU to be called in a fresh process."""
    cpu = case.device == "cpu"
    if cpu:
        torch.set_num_threads(threads)
        case = replace(case, tokens=max(case.tokens, -(-MEMORY_BYTES // (case.vocabulary * case.dtype.itemsize))))
    warm_up(case, VARIANTS[name])
    leaves, token = inputs(case, VARIANTS[name].from_hidden)
    before = resident() if cpu else torch.cuda.memory_allocated()
    extra = []
    for backward in (False, True):
        if not cpu:
            torch.cuda.reset_peak_memory_stats()
        run(VARIANTS[name], leaves, token, backward)
        peak = resident() if cpu else torch.cuda.max_memory_allocated()
        extra.append((peak - before) / case.logits_bytes)
    return extra


def seconds(case: Case, repeats: int, threads: int) -> dict[tuple[str, bool], tuple[float, float]]:
    """Return the medians of wall and CPU time by variant and pass; within a repeat the variants take turns."""
    cpu = case.device == "cpu"
    if cpu:
        torch.set_num_threads(threads)
    given = {from_hidden: inputs(case, from_hidden) for from_hidden in (False, True)}
    runs = [(name, backward) for backward in (False, True) for name in VARIANTS]
    times: dict[tuple[str, bool], list[tuple[float, float]]] = {key: [] for key in runs}
    for variant in VARIANTS.values():
        warm_up(case, variant)
    for _ in range(repeats):
        for name, backward in runs:
            variant = VARIANTS[name]
            if not cpu:
                torch.cuda.synchronize()
            wall, busy = time.perf_counter(), time.process_time()
            run(variant, *given[variant.from_hidden], backward)
            if not cpu:
                torch.cuda.synchronize()
            times[name, backward].append((time.perf_counter() - wall, time.process_time() - busy))
    return {
        key: (statistics.median(wall for wall, _ in found), statistics.median(busy for _, busy in found))
        for key, found in times.items()
    }


def copy_bandwidth() -> float:
    """Return the bytes that the accelerator reads and writes in a second of copying."""
    source = torch.zeros(2**28, device="cuda")
    taken = []
    for _ in range(10):
        torch.cuda.synchronize()
        began = time.perf_counter()
        source.clone()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return 2 * source.nbytes / statistics.median(taken)


def in_child(function: Callable[..., Any], *args: Any) -> Any:
    """Return what the function returns in a fresh process.

    A forked one starts at this process's present size, where one that is executed would inherit its largest. No tensor
    is computed in this process, so there are no threads to lose.
    """
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, args)


def report(case: Case, repeats: int, threads: int, bandwidth: float | None) -> list[tuple[str, bool]]:
    """Measure and print one vocabulary and type; return the targets and whether each is met."""
    call = in_child if case.device == "cpu" else lambda function, *args: function(*args)
    times = call(seconds, case, repeats, threads)
    extra = {name: call(peaks, case, name, threads) for name in VARIANTS}
    kind = str(case.dtype).removeprefix("torch.")
    print(f"\nV = {case.vocabulary}, {kind}, {case.tokens} tokens, {case.logits_bytes / 2**20:.0f} MiB of logits")
    head = f"{'tokens/s':>11} {'speed':>6} {'cpu' if bandwidth is None else 'read':>9} {'extra':>6}  "
    print(f"  {'':18}{head + 'forward':58}{head}forward and backward")
    targets = []
    for name, variant in VARIANTS.items():
        line = f"  {name:18}"
        for backward in (False, True):
            wall, busy = times[name, backward]
            base_wall, base_busy = times[variant.baseline or name, backward]
            memory, verdicts = extra[name][backward], []
            if variant.extra is not None and case.vocabulary >= LARGE:
                verdicts.append(("speed", wall <= base_wall))
            if variant.extra is not None and not backward:
                verdicts.append(("extra", memory < variant.extra))
            read = case.logits_bytes / wall
            third = f"{base_busy / busy:.2f}" if bandwidth is None else f"{read / 1e9:.0f} {read / bandwidth:.0%}"
            words = ", ".join(f"{what} {'met' if met else 'MISSED'}" for what, met in verdicts)
            line += f"{case.tokens / wall:11,.0f} {base_wall / wall:6.2f} {third:>9} {memory:6.2f}  "
            line += words if backward else f"{words:22}"
            where = f"{name}, V = {case.vocabulary}, {kind}, {'forward and backward' if backward else 'forward'}"
            targets += [(f"{what} of {where}", met) for what, met in verdicts]
        print(line.rstrip(), flush=True)
    return targets


def main() -> None:
    """Measure every vocabulary and type and print which targets are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=sorted(TOKENS), default="cpu")
    parser.add_argument("--tokens", type=int, nargs=len(WIDTHS), help=f"tokens timed, for each of {list(WIDTHS)} arms")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    bandwidth = copy_bandwidth() if args.device == "cuda" else None
    if bandwidth is None:
        print(f"CPU, {args.threads} threads, medians of {args.repeats}")
    else:
        print(f"{torch.cuda.get_device_name()}, medians of {args.repeats}, copy {bandwidth / 1e9:.0f} GB/s")
    targets = []
    for vocabulary, tokens in zip(WIDTHS, args.tokens or TOKENS[args.device], strict=True):
        for dtype in (torch.float32, torch.bfloat16):
            case = Case(vocabulary, tokens, dtype, args.device)
            targets += report(case, args.repeats, args.threads, bandwidth)
    print(f"\n{sum(met for _, met in targets)} of {len(targets)} targets met")
    for name, met in targets:
        if not met:
            print(f"missed: {name}")


if __name__ == "__main__":
    main()
