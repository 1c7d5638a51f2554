"""Entropy schedules: progress u = step / steps -> the band, which goes from `start` to `end`.

Source of the first three shapes: arXiv 2604.26326, Section 4; the others are ours. Bounds are in nats per token, or in
units of the base model's entropy when the config says `relative`; the schedule does not know which.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.methods.stages import Band, Schedule


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


# Progress, low, high.
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Piecewise:
    """Straight lines between points [u, low, high]; before the first and after the last, that point's band.

    Two points of the same u are a jump, after which the second holds.

    Args:
        points: rows [u, low, high], u the share of the run, never falling. A configuration may name a CSV file instead,
            `band.options: {file: FILE}`, with a column progress or step, and low and high, or centre and half_width.

    Source: ours.

    >>> Piecewise([[0, 0.5, 0.75], [0.5, 0.5, 0.75], [0.5, 0.25, 0.5], [1, 0.0, 0.25]])(0.75)
    Band(low=0.125, high=0.375)
    """

    points: Any

    def __post_init__(self) -> None:
        rows = self.points
        if not isinstance(rows, list | tuple) or not rows:
            raise ValueError(f"Piecewise(points={rows!r}) must be a list of rows [u, low, high]; got none.")
        object.__setattr__(self, "points", checked_points(rows, lambda index: f"Piecewise(points), row {index + 1},"))

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        after = bisect_right(self.points, progress, key=lambda point: point[0])
        if after in (0, len(self.points)):
            return Band(*self.points[min(after, len(self.points) - 1)][1:])
        (u0, *start), (u1, *end) = self.points[after - 1], self.points[after]
        share = (progress - u0) / (u1 - u0)
        return Band(*((1 - share) * a + share * b for a, b in zip(start, end, strict=True)))


def checked_points(rows: Sequence[Any], where: Callable[[int], str]) -> tuple[Point, ...]:
    """Return the points of a piecewise schedule as numbers.

    Args:
        rows: [u, low, high] each.
        where: index of a row -> what a message calls it.

    Raises:
        ValueError: a row that is not three finite numbers, u outside [0, 1] or falling, three points of one u, or a
            band that is upside down or negative.
    """
    points: list[Point] = []
    for index, row in enumerate(rows):
        numeric = isinstance(row, list | tuple) and all(
            isinstance(value, int | float) and math.isfinite(value) for value in row
        )
        if not numeric or len(row) != 3:
            raise ValueError(f"{where(index)} must be three finite numbers [u, low, high]; got {row!r}.")
        progress, low, high = (float(value) for value in row)
        if not 0 <= progress <= 1:
            raise ValueError(
                f"{where(index)} must have its progress in [0, 1]; got {progress:g}. It is a share of the run."
            )
        if not 0 <= low <= high:
            raise ValueError(f"{where(index)} must have 0 <= low <= high; got low {low:g} and high {high:g}.")
        if points and progress < points[-1][0]:
            raise ValueError(
                f"{where(index)} must not go back; got {progress:g} after {points[-1][0]:g}. Sort the rows."
            )
        if len(points) > 1 and progress == points[-2][0]:
            raise ValueError(
                f"{where(index)} must not be a third point at one place; got {progress:g} again. Two make a jump."
            )
        points.append((progress, low, high))
    return tuple(points)


@dataclass(frozen=True)
class WarmStart:
    """A schedule that is joined from the entropy that the policy has.

    Until `share` of the run the band's centre goes straight from that entropy to the schedule's centre at `share`. The
    width is the schedule's at each step, less where the band would reach below 0.

    Args:
        schedule: what is joined.
        entropy: where the centre begins, in the schedule's unit.
        share: of the run, in (0, 1].

    Source: ours.

    >>> WarmStart(Constant((0.5, 0.75), (0.0, 0.0)), entropy=1.125, share=0.5)(0.25)
    Band(low=0.75, high=1.0)
    """

    schedule: Schedule
    entropy: float
    share: float

    def __call__(self, progress: float) -> Band:
        """Return the band at this progress in [0, 1]."""
        band = self.schedule(progress)
        if progress >= self.share:
            return band
        done = progress / self.share
        centre = (1 - done) * self.entropy + done * self.schedule(self.share).centre
        half_width = min((band.high - band.low) / 2, centre)
        return Band(centre - half_width, centre + half_width)
