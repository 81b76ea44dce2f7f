"""The geometry of the dashboard's charts: where lines, slices and ticks stand. Pure.

Guarantees: every scale begins at zero and ends at a round number; gaps stay gaps. Does not: know colours or words;
templates draw, and style sheets colour by class. Lengths are percent of the drawing unless they say otherwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_STEPS: Final = (1, 2, 2.5, 5, 10)
TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the scale: its value, and how far from the top it stands."""

    value: float
    y: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A column: two parts, one upon the other, from `x` on."""

    x: float
    width: float
    low_y: float
    low_height: float
    high_y: float
    high_height: float


@dataclass(frozen=True, slots=True)
class Arc:
    """A half circle's filled share, and the ends of the tick at its target, in the units of a 200 × 110 drawing."""

    filled: float
    x1: float
    y1: float
    x2: float
    y2: float


def scale(highest: float) -> tuple[Tick, ...]:
    """Return the lines of a scale from zero to a round number not below `highest`, the top one first."""
    step = max(highest, 1e-9) / TICKS
    size = 10 ** math.floor(math.log10(step))
    nice = max(1.0, next(factor * size for factor in _STEPS if factor * size >= step * 0.999999))
    return tuple(Tick(nice * number, 100 - 100 * number / TICKS) for number in range(TICKS, -1, -1))


def lines(values: Sequence[float | None], *, top: float) -> tuple[str, ...]:
    """Return the path of each unbroken stretch of values, one point for each, in the middle of its slot."""
    paths: list[list[tuple[float, float]]] = []
    current: list[tuple[float, float]] = []
    for position, value in enumerate(values):
        if value is None:
            paths.append(current)
            current = []
        else:
            current.append((_middle(position, len(values)), 100 - 100 * value / top))
    paths.append(current)
    return tuple(
        "M" + "L".join(f"{x:.3f},{y:.3f}" for x, y in path) + ("h0" if len(path) == 1 else "") for path in paths if path
    )


def dots(values: Sequence[float | None], *, top: float) -> str:
    """Return one path that touches each value's point: drawn with round caps, a dot whatever the drawing's shape."""
    points = ((_middle(i, len(values)), 100 - 100 * value / top) for i, value in enumerate(values) if value is not None)
    return "".join(f"M{x:.3f},{y:.3f}h0" for x, y in points)


def bars(low: Sequence[int], high: Sequence[int], *, top: float) -> tuple[Bar, ...]:
    """Return a column a slot: `low` at the bottom, `high` upon it."""
    width = 100 / max(1, len(low))
    made = []
    for position, (below, above) in enumerate(zip(low, high, strict=True)):
        low_height, high_height = 100 * below / top, 100 * above / top
        made.append(
            Bar(
                x=round(position * width + width * 0.14, 3),
                width=round(width * 0.72, 3),
                low_y=round(100 - low_height, 3),
                low_height=round(low_height, 3),
                high_y=round(100 - low_height - high_height, 3),
                high_height=round(high_height, 3),
            )
        )
    return tuple(made)


def gauge(percent: float, *, target: float) -> Arc:
    """Return a half circle from 0 to 100 percent with a tick at the target."""
    angle = math.pi * (1 - target / 100)
    ends = [(100 + radius * math.cos(angle), 100 - radius * math.sin(angle)) for radius in (68, 96)]
    (x1, y1), (x2, y2) = ends
    return Arc(round(max(0.0, min(100.0, percent)), 2), round(x1, 2), round(y1, 2), round(x2, 2), round(y2, 2))


def _middle(position: int, count: int) -> float:
    return 100 * (position + 0.5) / count
