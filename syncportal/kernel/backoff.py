"""When to try again: pure arithmetic, no clock, no state.

Delays follow the rule base * 5^n with base 1 s and n counted from 1, so 5, 25 and 125 s. Jitter
only ever lengthens a delay: "never earlier" is a promise to the remote.
"""

from collections.abc import Sequence


def retry_delay_s(failed_attempts: int, *, delays_s: Sequence[float], jitter: float, chance: float) -> float | None:
    """Return the seconds to wait after the given number of failed attempts, or None when none is left.

    `failed_attempts` counts from 1. `chance` is a random number in [0, 1); `jitter` is the largest
    lengthening as a fraction (0.25 means up to +25 %).
    """
    if failed_attempts < 1 or failed_attempts > len(delays_s):
        return None
    return delays_s[failed_attempts - 1] * (1 + jitter * chance)


def honour_retry_after(delay_s: float, *, retry_after_s: float | None, cap_s: float) -> float:
    """Return the larger of our delay and the remote's wish, the wish being capped."""
    if retry_after_s is None:
        return delay_s
    return max(delay_s, min(max(retry_after_s, 0.0), cap_s))


def exponential_delay_s(failed_attempts: int, *, base_s: float, cap_s: float, jitter: float, chance: float) -> float:
    """Return base_s * 2^(n-1), capped at cap_s, lengthened by at most `jitter`."""
    return min(base_s * 2 ** min(failed_attempts - 1, 40), cap_s) * (1 + jitter * chance)
