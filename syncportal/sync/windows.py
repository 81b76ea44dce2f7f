"""The windows of time that numbers are shown for, and where each begins.

Owns: the list. Guarantees: a window begins where a slot of its roll-ups begins, so that a count and the list of what it
counts hold the same rows; it is never shorter than its name says. Does not: end; what happens now belongs to it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from syncportal.sync.rollups import DAY_S, FINE_S, HOUR_S, begin_of


@dataclass(frozen=True, slots=True)
class Window:
    """One window. source_s: the span of the roll-ups it is read from; slot_s: what one point of its charts covers."""

    key: str
    label: str
    length: timedelta
    source_s: int
    slot_s: int

    def since(self, now: datetime) -> datetime:
        """Return when the window begins, seen at `now`."""
        return begin_of(now - self.length, self.slot_s)

    def slots(self, now: datetime) -> tuple[datetime, ...]:
        """Return when each of its slots begins, the oldest first, the present one last."""
        begin, step = self.since(now), timedelta(seconds=self.slot_s)
        return tuple(begin + i * step for i in range(int((now - begin) / step) + 1))


WINDOWS: Final = {
    window.key: window
    for window in (
        Window("1h", "1 hour", timedelta(hours=1), FINE_S, FINE_S),
        Window("24h", "24 hours", timedelta(hours=24), HOUR_S, HOUR_S),
        Window("7d", "7 days", timedelta(days=7), HOUR_S, 6 * HOUR_S),
        Window("30d", "30 days", timedelta(days=30), DAY_S, DAY_S),
    )
}
DEFAULT: Final = WINDOWS["24h"]
