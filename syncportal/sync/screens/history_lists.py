"""The sync log and the events: append-only lists, read-only for everybody.

Owns: both lists and the page of one exchange. Guarantees: counting stops at `MOST`, so a table of millions opens as
fast as a small one; bodies are loaded on the page of one exchange only, and shown as text.
"""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from syncportal.kernel import strict_json
from syncportal.kernel.strict_json import StrictJsonError
from syncportal.sync.events import Kind
from syncportal.sync.models import Event, SyncLog
from syncportal.sync.screens.conflict_list import ConflictResourceFilter
from syncportal.sync.screens.log_filters import (
    OUTCOMES,
    ErrorFilter,
    FinalFilter,
    LogGroupFilter,
    OutcomeFilter,
    SinceFilter,
)
from syncportal.sync.screens.own_filters import OwnFilters
from syncportal.sync.screens.page import list_query, render
from syncportal.sync.screens.record_filters import RemoteFilter
from syncportal.sync.screens.timeline import LOOKS, describe
from syncportal.sync.screens.values import cut, icon, in_words, shown, time_tag
from syncportal.sync.states import Status

MOST = 10_000
STAGES = {"http_status": "HTTP status", "json": "Parseable JSON", "required": "Required fields", "types": "Data types",
          "rules": "Business rules", "version": "Version", "checksum": "Checksum"}  # fmt: skip


_CODES = frozenset({"action", "cause", "kind", "origin", "outcome", "reason", "scope", "state", "status"})


class CappedPaginator(Paginator):
    """Counts at most MOST rows: older ones are reached by filters.

    Which rows a page shows is found out before they are read: whole rows, joined, take five times as long to be put in
    order.
    """

    @cached_property
    def count(self) -> int:
        """Return the number of rows, at most MOST."""
        return cast(QuerySet, self.object_list).order_by()[:MOST].count()

    @property
    def capped(self) -> bool:
        """Tell whether there may be more rows than the count says."""
        return self.count >= MOST

    def page(self, number: int | str) -> Page:
        """Return a page by its number."""
        page = super().page(number)
        shown = list(cast(QuerySet, page.object_list).values_list("pk", flat=True))
        page.object_list = cast(QuerySet, self.object_list).filter(pk__in=shown)
        return page


def outcome_badge(outcome: str) -> SafeString:
    """Return what an attempt came to as a badge: icon, word, colour."""
    label, tone, name = OUTCOMES.get(outcome, (outcome.replace("_", " ").capitalize(), "info", "info"))
    return format_html('<span class="badge badge--{}">{}{}</span>', tone, icon(name), label)


class KindFilter(admin.SimpleListFilter):
    """Events of one kind."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer every kind there is."""
        return sorted(((kind.value, _kind_words(kind)) for kind in Kind), key=lambda offered: offered[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen kind."""
        return queryset.filter(kind=self.value()) if self.value() else queryset


class ActorFilter(admin.SimpleListFilter):
    """Events by who did it."""

    title = "who"
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> list[tuple[str, str]]:
        """Offer people, programs and the worker."""
        return [("user", "People"), ("api_key", "Programs with a key"), ("worker", "The worker")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen kind of actor."""
        return queryset.filter(actor_kind=self.value()) if self.value() else queryset


class _ReadOnly(OwnFilters):
    """Nobody adds, changes or deletes; bulk acts do not exist."""

    permission = ""
    actions = None
    list_display_links = None
    list_per_page = 100
    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may look; which rows, the queryset decides."""
        return request.user.has_perm(self.permission)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes."""
        return False


def _record_link(row: Any) -> SafeString:
    if row.record is None:
        return format_html('<span class="muted">{}</span>', "–")
    return format_html(
        '<a href="{}">{}</a>', reverse("admin:sync_record_change", args=[row.record_id]), cut(str(row.record), 60)
    )


class SyncLogAdmin(_ReadOnly):
    """Every HTTP exchange, redacted."""

    permission = "sync.view_synclog"
    change_list_template = "sync/log_list.html"
    list_display = ("when", "outcome_words", "record_link", "exchange", "answer", "duration", "problem")
    list_filter = (
        OutcomeFilter, SinceFilter, ErrorFilter, LogGroupFilter, RemoteFilter, ConflictResourceFilter, FinalFilter,
    )  # fmt: skip
    list_select_related = ("record", "resource")
    search_fields = ("record__title", "record__external_id", "url", "detail", "correlation_id")
    search_help_text = "Record, address, problem or correlation id"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[SyncLog]:
        """Return what the person may see, without headers and bodies."""
        rows = SyncLog.objects.visible_to(request.user).order_by("-id")
        return rows.defer(
            "request_headers", "request_body", "response_headers", "response_body", "verdicts", "record__data",
            "record__base",
        )  # fmt: skip

    @admin.display(description="When")
    def when(self, row: SyncLog) -> SafeString:
        """Show the time as the link to the exchange."""
        address = reverse("admin:sync_synclog_change", args=[row.pk])
        return format_html('<a class="nowrap" href="{}">{}</a>', address, time_tag(row.at))

    @admin.display(description="Attempt came to")
    def outcome_words(self, row: SyncLog) -> SafeString:
        """Show the outcome."""
        return outcome_badge(row.outcome)

    @admin.display(description="Record")
    def record_link(self, row: SyncLog) -> SafeString:
        """Link the record."""
        return _record_link(row)

    @admin.display(description="Exchange")
    def exchange(self, row: SyncLog) -> SafeString:
        """Show method and address."""
        whole = f"{row.method} {row.url}"
        return format_html('<span class="mono" title="{}">{}</span>', whole[:1000], cut(_short(whole), 52))

    @admin.display(description="Answer")
    def answer(self, row: SyncLog) -> str:
        """Show the HTTP status, or the kind of failure."""
        return str(row.http_status or row.error_kind or "–")

    @admin.display(description="Took")
    def duration(self, row: SyncLog) -> SafeString:
        """Show the duration."""
        return format_html('<span class="nowrap">{} ms</span>', row.duration_ms)

    @admin.display(description="Problem")
    def problem(self, row: SyncLog) -> SafeString | str:
        """Show the first words of what went wrong."""
        return format_html('<span class="problem" title="{}">{}</span>', row.detail[:1000], cut(row.detail, 70))

    def get_urls(self) -> list[URLPattern]:
        """Return the addresses of the list and of one exchange."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="sync_synclog_changelist"),
            path("<int:log_id>/", wrap(log_view), name="sync_synclog_change"),
        ]


def _short(line: str) -> str:
    method, _, url = line.partition(" ")
    path_only = url.split("://", 1)[-1].partition("/")[2]
    return f"{method} /{path_only}"


def log_view(request: HttpRequest, log_id: int) -> HttpResponse:
    """Show one exchange: what was asked, what came back, and every verdict on it."""
    if not request.user.has_perm("sync.view_synclog"):
        raise PermissionDenied
    rows = SyncLog.objects.visible_to(request.user).select_related("record", "resource")
    log = rows.filter(pk=log_id).first()
    if log is None:
        raise Http404("There is no such exchange, or it is not yours.")
    siblings = SyncLog.objects.filter(record_id=log.record_id or 0, claim_no=log.claim_no, attempt=log.attempt)
    verdicts = [
        (
            STAGES.get(str(verdict.get("stage")), str(verdict.get("stage"))),
            bool(verdict.get("ok")),
            verdict.get("detail"),
        )
        for verdict in log.verdicts or ()
        if isinstance(verdict, dict)
    ]
    context = {
        "log": log,
        "outcome": outcome_badge(log.outcome),
        "verdicts": verdicts,
        "not_reached": [label for stage, label in STAGES.items() if stage not in _reached(log)] if verdicts else [],
        "request_body": pretty(log.request_body),
        "response_body": pretty(log.response_body),
        "siblings": siblings.order_by("id").only("pk", "purpose", "http_status", "error_kind", "duration_ms")[:20]
        if log.record_id and log.claim_no
        else [],
        "back": list_query(request),
    }
    return render(
        request, "sync/log_page.html", title=f"{log.method} {cut(_short(f'x {log.url}')[2:], 60)}", context=context
    )


def _reached(log: SyncLog) -> set[str]:
    return {str(verdict.get("stage")) for verdict in log.verdicts if isinstance(verdict, dict)}


def pretty(body: str | None) -> str:
    """Return a stored body indented when it is whole JSON, else as it is."""
    if not body:
        return ""
    try:
        return json.dumps(strict_json.loads(body), ensure_ascii=False, indent=2)
    except StrictJsonError:
        return body


def _line(told: Mapping[str, Any]) -> str:
    """Return the particulars in one line; of changes only the fields' names."""
    return " · ".join(f"{in_words(name)}: {_value(name, value)}" for name, value in told.items())


def _value(name: str, value: Any) -> str:
    """Return one particular as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (dict, list)):
        return ", ".join(map(str, value))
    text = shown(value, limit=40).text
    if text in Status.values:
        return str(Status(text).label)
    return in_words(text) if name in _CODES else text


def _kind_words(kind: str) -> str:
    return LOOKS[kind][0] if kind in LOOKS else kind


class EventAdmin(_ReadOnly):
    """Every fact, newest first."""

    permission = "sync.view_event"
    change_list_template = "sync/event_list.html"
    list_display = ("when", "kind_words", "record_link", "who", "particulars")
    list_filter = (ActorFilter, ConflictResourceFilter, KindFilter)
    list_select_related = ("record", "actor")
    search_fields = ("record__title", "record__external_id", "actor__username", "correlation_id")
    search_help_text = "Record, person or correlation id"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Event]:
        """Return what the person may see."""
        return Event.objects.listed_for(request.user).defer("record__data", "record__base").order_by("-id")

    @admin.display(description="When")
    def when(self, row: Event) -> SafeString:
        """Show the time."""
        return format_html('<span class="nowrap">{}</span>', time_tag(row.at))

    @admin.display(description="What")
    def kind_words(self, row: Event) -> SafeString:
        """Show the kind in words, its name for programs on hover."""
        told = describe(row)
        return format_html(
            '<span class="event event--{}" title="{}">{}<span>{}</span></span>', told.tone, row.kind, icon(told.icon),
            told.title,
        )  # fmt: skip

    @admin.display(description="Record")
    def record_link(self, row: Event) -> SafeString:
        """Link the record."""
        return _record_link(row)

    @admin.display(description="Who")
    def who(self, row: Event) -> str:
        """Show who did it."""
        return row.actor.get_username() if row.actor else row.actor_label or row.actor_kind

    @admin.display(description="Particulars")
    def particulars(self, row: Event) -> SafeString:
        """Show the particulars in words, the event as programs get it one click away."""
        told = {name: value for name, value in row.data.items() if value not in ("", None, {}, [])}
        if not told:
            return format_html("{}", "")
        whole = {"kind": row.kind, "data": row.data}
        return format_html(
            '<details class="disclosure"><summary>{}</summary><pre class="code">{}</pre></details>',
            cut(describe(row).detail or _line(told), 80),
            json.dumps(whole, ensure_ascii=False, indent=2, default=str)[:20_000],
        )  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        """Return the address of the list."""
        return [path("", self.admin_site.admin_view(self.changelist_view), name="sync_event_changelist")]
