"""What the rollout engine costs, against a plain decoding loop, and what slots and large vocabularies do to it.

    python benchmarks/rollout.py --repeats 15

A Qwen3 of 0.8 million weights, random, in float32, on one thread; CPU seconds, runs of all variants interleaved. The
plain loop decodes with transformers' growing cache and records log-probabilities and entropies of what it draws with
torch's own generator.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

from trainer.model import Policy
from trainer.network import going_on_from
from trainer.rollout import Rollouts
from trainer.sampling import sample
from trainer.streams import TokenUniforms

PROMPT, GROUP = 8, 8


def policy_of(attention: str, vocabulary: int = 64, stop: int | None = None, layers: int = 4) -> Policy:
    """Return a random model; `stop` lies outside the vocabulary by default, so that completions have full length."""
    torch.manual_seed(0)
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}
    size = {"hidden_size": 128, "intermediate_size": 384, "max_position_embeddings": 2048}
    config = Qwen3Config(vocab_size=vocabulary, num_hidden_layers=layers, **heads, **size, tie_word_embeddings=True)
    model = Qwen3ForCausalLM(config).float().eval()
    model.set_attn_implementation(attention)
    return Policy(model, None, (vocabulary if stop is None else stop,), 2048)


def prompts_of(count: int) -> list[list[int]]:
    """Return prompts of random tokens."""
    return torch.randint(3, 60, (count, PROMPT), generator=torch.Generator().manual_seed(1)).tolist()


@torch.inference_mode()
def plain_loop(policy: Policy, prompts: list[list[int]], length: int) -> None:
    """Decode token by token with all rows at once, prompts repeated for every sample."""
    ids, cache = torch.tensor(prompts).repeat_interleave(GROUP, 0), DynamicCache(config=policy.model.config)
    places = torch.arange(PROMPT)
    for step in range(length):
        output = policy.model(
            ids,
            **going_on_from(cache, policy.model),
            position_ids=places.expand(len(ids), -1),
            use_cache=True,
            logits_to_keep=1,
        )
        log_probs = output.logits[:, -1].log_softmax(-1)
        probs = log_probs.exp()
        ids = torch.multinomial(probs, 1)
        log_probs.gather(1, ids)
        (probs * log_probs).sum(-1)
        places = torch.tensor([PROMPT + step])


def compare(title: str, variants: dict[str, Callable[[], object]], repeats: int, tokens: int) -> None:
    """Print the median CPU seconds of each variant and its ratio to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, run in variants.items():
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    print(title)
    first = next(iter(seconds.values()))[1:]
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values[1:], first, strict=True))
        median = statistics.median(values[1:])
        print(f"  {name:34} {median:.4f} CPU s (least {min(values[1:]):.4f})   x {ratio:.3f}   {tokens / median:.0f}/s")


def main() -> None:
    """Run every comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    generator = TokenUniforms(1)
    exact, plain = policy_of("sdpa_float64"), policy_of("sdpa")

    def run(policy: Policy, prompts: int, length: int, **options: object) -> Rollouts:
        return sample(policy, prompts_of(prompts), GROUP, length, generator=generator, **options)

    for prompts, length, times in ((16, 24, repeats), (8, 400, max(1, repeats // 5))):
        variants = {
            "plain loop, sdpa": lambda p=prompts, n=length: plain_loop(plain, prompts_of(p), n),
            "engine, sdpa": lambda p=prompts, n=length: run(plain, p, n),
            "engine, sdpa_float64": lambda p=prompts, n=length: run(exact, p, n),
            "engine, sdpa_float64, statistics": lambda p=prompts, n=length: run(exact, p, n, statistics=True),
        }
        compare(f"{prompts} x {GROUP} rows of {length} tokens", variants, times, prompts * GROUP * length)
    ending = policy_of("sdpa", stop=5)
    tokens = int(run(ending, 32, 128).mask.sum())
    variants = {f"slots {slots}": lambda s=slots: run(ending, 32, 128, slots=s) for slots in (0, 64)}
    compare(f"32 x {GROUP} rows that end after {tokens / 256:.0f} tokens", variants, max(1, repeats // 5), tokens)
    large = policy_of("sdpa", vocabulary=151_936, layers=1)
    compare("vocabulary 151 936, 8 x 8 rows of 8 tokens", {"engine, sdpa": lambda: run(large, 8, 8)}, 1, 512)


if __name__ == "__main__":
    main()
