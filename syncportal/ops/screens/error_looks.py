"""How error groups look: the badge of their state, the small bars of their trend."""

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from syncportal.ops import charts
from syncportal.sync.error_reading import Trend
from syncportal.sync.error_states import GroupState
from syncportal.sync.screens.values import badge

LOOKS = {
    GroupState.OPEN: ("error", "alert"), GroupState.SNOOZED: ("info", "clock"), GroupState.IGNORED: ("info", "pause"),
    GroupState.OVER: ("success", "check"),
}  # fmt: skip


def state_badge(state: str) -> SafeString:
    """Return where a group stands as a badge."""
    tone, name = LOOKS[GroupState(state)]
    return badge(tone, name, str(GroupState(state).label))


def sparkline(slots: Trend) -> SafeString:
    """Return small bars, one a slot; their numbers in words for those who do not see them."""
    counts = [count for _, count in slots]
    bars = charts.bars(counts, [0] * len(counts), top=max(1, *counts))
    drawn = format_html_join(
        "", '<rect x="{}" y="{}" width="{}" height="{}"></rect>',
        ((bar.x, bar.low_y, bar.width, bar.low_height) for bar in bars if bar.low_height),
    )  # fmt: skip
    words = f"{sum(counts):,} failed attempts, at most {max(counts):,} in an hour"
    return format_html(
        '<svg class="spark" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<title>{}</title><path class="spark__base" d="M0,100H100"></path>{}</svg>',
        words, words, drawn,
    )  # fmt: skip
