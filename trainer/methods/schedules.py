"""Entropy schedules: progress u = step / steps -> the band, which goes from `start` to `end`.

Source of the first three shapes: arXiv 2604.26326, Section 4; the square wave is ours. Bounds are in nats per token, or
in units of the base model's entropy when the config says `relative`; the schedule does not know which.
"""

import math
from dataclasses import dataclass

from trainer.methods.stages import Band


@dataclass(frozen=True)
class _FromTo:
    start: tuple[float, float]
    end: tuple[float, float]

    def __post_init__(self) -> None:
        for name, (low, high) in (("start", self.start), ("end", self.end)):
            if not 0 <= low <= high:
                raise ValueError(
                    f"{type(self).__name__}({name}={[low, high]}) must have 0 <= low <= high; got low {low} and high "
                    f"{high}. Write band.{name} as [low, high]."
                )

    def at(self, share: float) -> Band:
        """Return the band that lies `share` of the way from start to end."""
        low, high = ((1 - share) * a + share * b for a, b in zip(self.start, self.end, strict=True))
        return Band(low, high)


class Constant(_FromTo):
    """The band `start` throughout; `end` plays no part.

    >>> Constant((0.4, 0.6), (0.0, 0.0))(0.7)
    Band(low=0.4, high=0.6)
    """

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        return self.at(0.0)


class Linear(_FromTo):
    """h(u) = h_0 + (h_1 - h_0) u.

    >>> Linear((0.6, 0.8), (0.2, 0.4))(0.5)
    Band(low=0.4, high=0.6000000000000001)
    """

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        return self.at(progress)


class Cosine(_FromTo):
    """h(u) = h_0 + (h_1 - h_0) (1 - cos pi u) / 2: slow at both ends.

    >>> Cosine((0.6, 0.8), (0.2, 0.4))(0.0)
    Band(low=0.6, high=0.8)
    """

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        return self.at((1 - math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True)
class SquareWave(_FromTo):
    """`start` for the first half of each period, `end` for the second: what shows how fast control reacts, up and down.

    Args:
        start: [low, high] in the first half.
        end: [low, high] in the second half.
        period: share of the run that a period takes, in (0, 1].

    Source: ours, a step response.

    >>> SquareWave((0.6, 0.8), (0.2, 0.4), period=0.5)(0.3)
    Band(low=0.2, high=0.4)
    """

    period: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.period <= 1:
            raise ValueError(f"SquareWave(period={self.period}) must be a share of the run in (0, 1].")

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        return self.at(0.0 if (progress / self.period) % 1 < 0.5 else 1.0)
