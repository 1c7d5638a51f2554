"""Named random streams: every random draw of a run is a pure function of (root seed, names, indices).

No stream shares state with another, so adding a consumer, resuming a run or changing the batch layout never
shifts the numbers that somebody else sees.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def stream_seed(root: int, *names: str | int) -> int:
    """Return a 63-bit seed for the stream called `names` under the root seed.

    Args:
        root: the run's seed.
        names: what the stream is for, and indices such as the step.

    Returns:
        An integer in [0, 2**63), equal on every platform.

    >>> stream_seed(0, "prompts", 3) == stream_seed(0, "prompts", 3)
    True
    >>> stream_seed(0, "prompts", 3) == stream_seed(0, "eval", 3)
    False
    """
    text = "/".join(str(part) for part in (root, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def python_stream(root: int, *names: str | int) -> random.Random:
    """Return a `random.Random` for scalar draws in plain Python."""
    return random.Random(stream_seed(root, *names))


def numpy_stream(root: int, *names: str | int) -> np.random.Generator:
    """Return a NumPy generator for the named stream."""
    return np.random.Generator(np.random.Philox(stream_seed(root, *names)))


@dataclass(frozen=True)
class TokenUniforms:
    """The uniforms that sample tokens, addressed by (prompt index, sample index, position).

    A counter-based generator (Philox) is keyed by the stream's seed and positioned by the row, so a row's draws do
    not depend on which other rows are in the batch, in what order, or on which process it is generated.

    Args:
        seed: the stream's seed, from `stream_seed`.
        first_sample: added to every sample index, where a group is drawn in parts.
    """

    seed: int
    first_sample: int = 0

    def __call__(self, prompt: Sequence[int], sample: Sequence[int], length: int) -> Tensor:
        """Return uniforms `[B, length]` in [0, 1), float64, for rows (prompt[b], sample[b]).

        >>> uniforms = TokenUniforms(seed=1)
        >>> both, alone = uniforms([0, 4], [1, 2], 5), uniforms([4], [2], 3)
        >>> bool((both[1, :3] == alone[0]).all())
        True
        """
        # One generator that is put at each row's counter: making one for each takes four times as long.
        philox = np.random.Philox(key=self.seed)
        generator, state = np.random.Generator(philox), philox.state
        uniforms = np.empty((len(prompt), length))
        for row, p, s in zip(uniforms, prompt, sample, strict=True):
            state["state"]["counter"] = np.array([0, 0, p, s + self.first_sample], dtype=np.uint64)
            philox.state = state
            generator.random(out=row)
        return torch.from_numpy(uniforms)


def row_uniforms(root: int, name: str, step: int, rows: int, length: int) -> Tensor:
    """Return uniforms `[rows, length]` in [0, 1) of a step, for the stream of this name; row b is always the same."""
    return TokenUniforms(stream_seed(root, name, step))([0] * rows, list(range(rows)), length)
