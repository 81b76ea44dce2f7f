"""The list of alerts: open ones first, history on demand, with their numbers."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rollback.screens.list_parts import ReadOnlyList
from syncportal.kernel.clock import db_now
from syncportal.ops import heartbeat
from syncportal.ops.alerts import rights
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import LIVE, AlertState, Severity
from syncportal.ops.screens import alert_page, digest_page
from syncportal.ops.screens.alert_looks import alert_badge, severity_badge
from syncportal.remote.models import Remote
from syncportal.sync.screens.choice_filters import ChoiceFilter
from syncportal.sync.screens.page import with_back
from syncportal.sync.screens.values import cut, time_tag

Choices = list[tuple[str, str]]


class StateFilter(admin.SimpleListFilter):
    """Open alerts unless others are asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the acknowledged and resolved ones, or all, with their numbers."""
        counts = dict(Alert.objects.order_by().values_list("state").annotate(number=Count("pk")))
        self.open_now = sum(counts.get(state, 0) for state in LIVE)
        listed = (AlertState.ACKNOWLEDGED, AlertState.RESOLVED)
        each = [(state.value, f"{state.label} ({counts.get(state, 0)})") for state in listed]
        return [*each, ("all", "All")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep the open ones by default, acknowledged ones among them."""
        if self.value() == "all":
            return queryset
        states = [self.value()] if self.value() in AlertState.values else sorted(LIVE)
        return queryset.filter(state__in=states)

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Call the default what it is."""
        for number, choice in enumerate(super().choices(changelist)):
            yield choice | {"display": f"Open ({self.open_now})"} if number == 0 else choice


class SeverityFilter(ChoiceFilter):
    """Alerts of one severity."""

    title = parameter_name = "severity"
    offered = Severity


class RuleFilter(ChoiceFilter):
    """Alerts of one kind of rule."""

    title = parameter_name = "rule"
    offered = Kind
    column = "kind"


class AlertRemoteFilter(admin.SimpleListFilter):
    """Alerts about one remote and its resources."""

    title = "remote"
    parameter_name = "remote"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every remote."""
        return [(slug, name or slug) for slug, name in Remote.objects.values_list("slug", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those about the chosen one."""
        return queryset.filter(remote__slug=self.value()) if self.value() else queryset


class AlertAdmin(ReadOnlyList):
    """Alerts: the list, and the addresses of the page of one."""

    change_list_template = "alerts/alert_list.html"
    list_display = ("what", "severity_shown", "state_shown", "since_shown", "seen", "known_by")
    list_filter = (StateFilter, SeverityFilter, RuleFilter, AlertRemoteFilter)
    search_fields = ("scope_name", "summary")
    search_help_text = "Remote, resource or words"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alert]:
        """Return what the person may see."""
        return rights.visible_alerts(request.user).order_by("-id")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; whether a worker runs is computed here, because without one nobody opens that alert."""
        workers = heartbeat.seen(db_now())
        page = {
            "tab": "alerts",
            "no_worker": not any(worker.alive for worker in workers),
            "silent_since": max((worker.seen_at for worker in workers), default=None),
            "may_configure": rights.may_configure(request.user),
        }
        return super().changelist_view(request, {**page, **(extra_context or {})})

    @admin.display(description="Alert", ordering="kind")
    def what(self, row: Any) -> SafeString:
        """Show the rule and place as the link, and the finding under it."""
        address = with_back(reverse("admin:ops_alert_change", args=[row.pk]), row.list_query)
        return format_html(
            '<a class="row-title" href="{}">{}</a><br><span class="small">{}</span>',
            address, cut(str(row), 80), cut(row.summary, 140),
        )  # fmt: skip

    @admin.display(description="Severity", ordering="severity")
    def severity_shown(self, row: Alert) -> SafeString:
        """Show how soon somebody must look."""
        return severity_badge(row.severity)

    @admin.display(description="State", ordering="state")
    def state_shown(self, row: Alert) -> SafeString:
        """Show where it stands."""
        return alert_badge(row)

    @admin.display(description="Since", ordering="since")
    def since_shown(self, row: Any) -> SafeString:
        """Show how long it has lasted, or lasted."""
        end = row.resolved_at or row.shown_at
        words = "for " if row.resolved_at else ""
        return format_html('<span class="nowrap">{}{}</span>', words, time_tag(row.since, now=end))

    @admin.display(description="Seen", ordering="count")
    def seen(self, row: Alert) -> str:
        """Show how often it was found, and whether it came back."""
        came_back = f", came back {row.reopenings}×" if row.reopenings else ""
        return f"{row.count}×{came_back}"

    @admin.display(description="Known by")
    def known_by(self, row: Alert) -> str:
        """Show who took it on."""
        return row.acknowledged_label or "–"

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of our own pages, which do not run in a transaction."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="ops_alert_changelist"),
            path("digest/", wrap(digest_page.digest_view), name="ops_digest"),
            path("<int:alert_id>/", wrap(alert_page.alert_view), name="ops_alert_change"),
            path("<int:alert_id>/acknowledge/", wrap(alert_page.acknowledge_view), name="ops_alert_acknowledge"),
            path("<int:alert_id>/silence/", wrap(alert_page.silence_view), name="ops_alert_silence"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who see everybody's records."""
        return rights.may_see(request.user)
