"""Policy updates per second of the batched simulations, against one run at a time in plain NumPy.

    python benchmarks/simulation_throughput.py [--scaling] [--profile] [--threads N] [--jobs N] [--device cpu]

The same work on both sides, float32: V = 20 arms, G = 8 samples, GRPO advantages, PPO clip, one SGD update a batch,
entropy and mean reward recorded. Both sides are timed in one process, in alternation, in CPU seconds where one thread
works, and the best of ten rounds counts; the NumPy side runs a few runs, one after the other, as a script for one
policy would be written. With --jobs the repeats are shared out to processes, as `entrocraft simulate --jobs` shares out
cells, and wall time counts.
"""

import argparse
import multiprocessing
import time

import numpy as np
import torch

from simulations.loop import Setting, Simulation
from simulations.policies import Table
from simulations.problems import bandit
from trainer.methods.assembly import assemble

V, G, CORRECT, ETA, CLIP, ROUNDS = 20, 8, 5, 0.1, 0.2, 10
SECONDS = 5.0


def clock(device: str = "cpu") -> float:
    """Return seconds: of the CPU where one thread does all the work, of the wall otherwise."""
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def numpy_updates(runs: int, steps: int, seed: int) -> float:
    """Return the seconds that some runs take, one after the other."""
    rng = np.random.default_rng(seed)
    reward = (np.arange(V) < CORRECT).astype(np.float32)
    began = clock()
    for _ in range(runs):
        z, curve = rng.normal(size=V).astype(np.float32), []
        for _ in range(steps):
            e = np.exp(z - z.max())
            p = e / e.sum()
            log_p = np.log(p)
            entropy = -(p * log_p).sum()
            y = np.minimum(np.searchsorted(p.cumsum(), rng.random(G, dtype=np.float32), side="right"), V - 1)
            r = reward[y]
            centred = r - r.mean()
            a = centred / (r.std(ddof=1) + np.float32(1e-6)) if r.max() > r.min() else np.zeros_like(r)
            curve.append((entropy, r.mean()))
            old = log_p[y]
            ratio = np.exp(log_p[y] - old)
            free = (ratio * a <= np.clip(ratio, 1 - CLIP, 1 + CLIP) * a).astype(np.float32)
            slope = ratio * a * free / np.float32(G)
            gradient = -p * slope.sum()
            np.add.at(gradient, y, slope)
            z = z + np.float32(ETA) * gradient
    return clock() - began


def simulation(repeats: int, device: str) -> Simulation:
    """Return the batched runs."""
    setting = Setting(
        policy=Table(1, V),
        problem=bandit(1, V, CORRECT),
        algorithm=assemble({"advantage": "grpo", "clip": "ppo", "denominator": "zero"}, group_size=G),
        steps=10**9,
        learning_rate=ETA,
        group_size=G,
        measure=False,
    )
    return Simulation(setting, repeats, seed=0, dtype=torch.float32, device=device)


def batched_seconds(runs: Simulation, steps: int, device: str) -> float:
    """Return the seconds a step of all runs takes."""
    began = clock(device)
    for _ in range(steps):
        runs.advance()
    if device != "cpu":
        torch.cuda.synchronize()
    return (clock(device) - began) / steps


def compare(repeats: int, device: str) -> None:
    """Print updates a second of both sides, and their ratio."""
    runs = simulation(repeats, device)
    batched_seconds(runs, 20, device)
    numpy_updates(1, 100, 0)
    batched, plain = [], []
    for round in range(ROUNDS):
        batched.append(batched_seconds(runs, 40, device) / repeats)
        plain.append(numpy_updates(4, 300, round) / 1200)
    fast, slow = min(batched), min(plain)
    print(
        f"R = {repeats} on {device}, {torch.get_num_threads()} threads: {1 / fast:,.0f} updates/s   "
        f"NumPy, one run at a time: {1 / slow:,.0f} updates/s   ratio {slow / fast:.0f}"
    )


def side_by_side(arguments: tuple[int, float]) -> float:
    """Return the updates a second of a process that starts to measure at a given time."""
    repeats, start = arguments
    torch.set_num_threads(1)
    runs = simulation(repeats, "cpu")
    batched_seconds(runs, 20, "cpu")
    time.sleep(max(0.0, start - time.time()))
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        batched_seconds(runs, 20, "cpu")
        steps += 20
    return repeats * steps / (time.perf_counter() - began)


def compare_jobs(repeats: int, jobs: int) -> None:
    """Print updates a second of several processes together, and the ratio to the NumPy loop."""
    slow = min(numpy_updates(4, 300, round) / 1200 for round in range(ROUNDS))
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs) as pool:
        fast = sum(pool.map(side_by_side, [(repeats // jobs, time.time() + 15)] * jobs, chunksize=1))
    print(
        f"R = {repeats} in {jobs} processes: {fast:,.0f} updates/s   "
        f"NumPy, one run at a time: {1 / slow:,.0f} updates/s   ratio {fast * slow:.0f}"
    )


def scaling(device: str) -> None:
    """Print updates a second over the number of repeats."""
    for repeats in (1, 10, 100, 1000, 4096, 10_000, 100_000, 1_000_000):
        runs = simulation(repeats, device)
        steps = max(2, min(200, 400_000 // repeats))
        batched_seconds(runs, 2, device)
        seconds = min(batched_seconds(runs, steps, device) for _ in range(3))
        print(f"R = {repeats:>9,}: {repeats / seconds:>14,.0f} updates/s   {seconds * 1e3:9.3f} ms a step", flush=True)


def profile(repeats: int, device: str) -> None:
    """Print which operations a step spends its time in."""
    runs = simulation(repeats, device)
    batched_seconds(runs, 20, device)
    with torch.profiler.profile() as found:
        batched_seconds(runs, 50, device)
    print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scaling", action="store_true", help="R = 1 ... 1e6")
    parser.add_argument("--profile", action="store_true", help="time by operation")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.scaling:
        scaling(given.device)
    elif given.jobs > 1:
        compare_jobs(given.repeats, given.jobs)
    elif given.profile:
        profile(given.repeats, given.device)
    else:
        compare(given.repeats, given.device)


if __name__ == "__main__":
    main()
