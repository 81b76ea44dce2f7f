"""How long a grouped update may take, and how much of that goes to undoing."""

import time
from dataclasses import dataclass, field

from syncportal.remote.client import Deadline

FORWARD_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds: one call, the whole request, and when it began on the monotonic clock."""

    call_s: float
    request_s: float
    began: float = field(default_factory=time.monotonic)

    def forward_left(self) -> float:
        """Return how long new forward calls may still take."""
        return self.began + self.request_s * FORWARD_SHARE - time.monotonic()

    def waited(self) -> float:
        """Return how long the request has taken so far."""
        return time.monotonic() - self.began

    def left(self) -> float:
        """Return how long the request may still take."""
        return self.began + self.request_s - time.monotonic()

    def deadline(self, left: float) -> Deadline:
        """Return one call's deadline."""
        return Deadline(max(0.05, min(self.call_s, left)))
