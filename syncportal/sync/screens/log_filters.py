"""The filters of the sync log: outcome, time, error, last of an attempt.

Owns: their parameters (also used by links elsewhere) and what each selects. Guarantees: chosen alike, they select the
rows that the dashboard counts; a value nobody offers selects nothing special.
"""

from datetime import datetime

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.dateparse import parse_datetime

from syncportal.kernel.clock import db_now
from syncportal.sync.rollups import COUNTED, FAILED, SUCCEEDED
from syncportal.sync.screens.record_filters import ErrorGroupFilter, number_in
from syncportal.sync.screens.values import local
from syncportal.sync.states import COMPLETE, FAIL, GIVE_UP, MARK_CONFLICT, POSTPONE, REBASE, REJECT, RETRY_LATER, SKIP
from syncportal.sync.windows import WINDOWS

OUTCOMES = {
    COMPLETE.name: ("Completed", "success", "check"),
    SKIP.name: ("Skipped", "success", "check"),
    REBASE.name: ("Merged", "info", "split"),
    RETRY_LATER.name: ("Retry later", "warning", "retry"),
    POSTPONE.name: ("Postponed", "warning", "pause"),
    MARK_CONFLICT.name: ("Conflict", "warning", "split"),
    FAIL.name: ("Refused", "error", "cross"),
    REJECT.name: ("Validation failed", "error", "alert"),
    GIVE_UP.name: ("Given up", "error", "stop"),
    "discarded": ("Discarded", "info", "info"),
}
_GROUPS = {
    "failed": ("All failures", FAILED),
    "succeeded": ("All that succeeded", SUCCEEDED),
    "counted": ("Succeeded or failed", (*SUCCEEDED, *FAILED)),
    "attempts": ("Every attempt", tuple(sorted(COUNTED))),
}
LONGEST_ERROR = 40


class OutcomeFilter(admin.SimpleListFilter):
    """Exchanges by what their attempt came to."""

    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer groups of outcomes, then each outcome."""
        groups = [(name, label) for name, (label, _) in _GROUPS.items()]
        return [*groups, *((name, label) for name, (label, _, _) in OUTCOMES.items())]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with the chosen outcome."""
        chosen = self.value()
        if chosen in _GROUPS:
            return queryset.filter(outcome__in=_GROUPS[chosen][1])
        return queryset.filter(outcome=chosen) if chosen else queryset


class SinceFilter(admin.SimpleListFilter):
    """Exchanges since the beginning of a window, or since a given moment."""

    title = "time"
    parameter_name = "since"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer the windows of the dashboard, and the moment that an address names."""
        offered = [(window.key, f"Last {window.label}") for window in WINDOWS.values()]
        given = _moment(self.value())
        return [*offered, (str(self.value()), f"Since {local(given)}")] if given else offered

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those that began in it."""
        window = WINDOWS.get(self.value() or "")
        since = window.since(db_now()) if window else _moment(self.value())
        return queryset.filter(at__gte=since) if since else queryset


class ErrorFilter(admin.SimpleListFilter):
    """Exchanges with one error: its code, or its kind where there is no code."""

    title = "error"
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Show what the address names; the codes there are nobody counts for a list."""
        return [(self.value() or "", (self.value() or "")[:LONGEST_ERROR])] if self.value() else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those with that error."""
        chosen = self.value()
        if not chosen:
            return queryset
        return queryset.filter(Q(error_code=chosen) | Q(error_code="", error_kind=chosen))


class FinalFilter(admin.SimpleListFilter):
    """The last exchange of each attempt only."""

    title = "exchanges"
    parameter_name = "exchanges"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer one row an attempt."""
        return [("final", "Last of each attempt")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the final ones."""
        return queryset.filter(final=True) if self.value() == "final" else queryset


class LogGroupFilter(ErrorGroupFilter):
    """Exchanges that failed for one cause."""

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        return queryset.filter(error_group=number_in(self.value())) if self.value() else queryset


def _moment(text: str | None) -> datetime | None:
    """Return the moment that a parameter names with its offset from UTC, None when it names none."""
    try:
        given = parse_datetime(text or "")
    except ValueError:
        return None
    # Near the ends of the calendar the same moment has no date in another zone.
    known = given is not None and given.tzinfo is not None and 1970 <= given.year < 9999
    return given if known else None
