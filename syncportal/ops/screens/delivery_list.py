"""Deliveries: what was sent to whom, what waits, what was given up; the page of one, and sending again."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_GET, require_POST

from rollback.screens.list_parts import ReadOnlyList
from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import outbox, rights
from syncportal.ops.alerts.models import Channel, Delivery
from syncportal.ops.alerts.states import DeliveryState, Message
from syncportal.ops.screens.alert_looks import delivery_badge
from syncportal.sync.screens.choice_filters import ChoiceFilter
from syncportal.sync.screens.page import list_query, render, with_back
from syncportal.sync.screens.record_filters import number_in
from syncportal.sync.screens.values import cut, time_tag

Choices = list[tuple[str, str]]
GATHERED = 100


class DeliveryStateFilter(ChoiceFilter):
    """Deliveries by where they stand."""

    title = parameter_name = "state"
    offered = DeliveryState

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every state with its number."""
        counts = dict(Delivery.objects.order_by().values_list("state").annotate(number=Count("pk")))
        return [(str(value), f"{label} ({counts.get(value, 0):,})") for value, label in DeliveryState.choices]


class MessageFilter(ChoiceFilter):
    """Deliveries by what they tell."""

    title = parameter_name = "notice"
    offered = Message
    column = "message"


class ChannelFilter(admin.SimpleListFilter):
    """Deliveries of one channel."""

    title = "channel"
    parameter_name = "channel"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer every channel, and mail to people."""
        rows = Channel.objects.order_by("name").values_list("pk", "name")
        return [*((str(pk), name) for pk, name in rows), ("people", "Mail to people")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those of the chosen one."""
        value = self.value() or ""
        if value == "people":
            return queryset.filter(person__isnull=False)
        return queryset.filter(channel_id=number_in(value)) if value else queryset


class AlertFilter(admin.SimpleListFilter):
    """Deliveries about one alert; reached from its page."""

    title = "alert"
    parameter_name = "alert"

    def lookups(self, request: HttpRequest, model_admin: ModelAdmin) -> Choices:
        """Offer the one that was asked for."""
        value = request.GET.get("alert", "")
        return [(value, f"Alert {value}")] if number_in(value) else []

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        """Keep those about it."""
        return queryset.filter(outbox.about(number_in(self.value()))) if self.value() else queryset


class DeliveryAdmin(ReadOnlyList):
    """Deliveries: the list, and the addresses of the page of one."""

    change_list_template = "alerts/delivery_list.html"
    list_display = ("what", "to", "state_shown", "tries", "when")
    list_filter = (DeliveryStateFilter, ChannelFilter, MessageFilter, AlertFilter)
    list_select_related = ("channel", "person")
    search_fields = ("subject",)
    search_help_text = "Subject"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Return all to who may see alerts, without their text."""
        rows = Delivery.objects.defer("body", "payload").order_by("-id")
        return rows if rights.may_see(request.user) else rows.none()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list below the tabs."""
        return super().changelist_view(request, {"tab": "deliveries", **(extra_context or {})})

    @admin.display(description="Notice", ordering="subject")
    def what(self, row: Any) -> SafeString:
        """Show the subject as the link."""
        address = with_back(reverse("admin:ops_delivery_change", args=[row.pk]), row.list_query)
        return format_html(
            '<a class="row-title" href="{}">{}</a><br><span class="muted small">{}</span>',
            address, cut(row.subject, 90), row.get_message_display(),
        )  # fmt: skip

    @admin.display(description="To")
    def to(self, row: Delivery) -> str:
        """Show the channel or person."""
        return str(row.channel or row.person)

    @admin.display(description="State", ordering="state")
    def state_shown(self, row: Delivery) -> SafeString:
        """Show where it stands, and the last error in a line."""
        shown = delivery_badge(row)
        if not row.last_error:
            return shown
        return format_html('{} <span class="problem small" title="{}">{}</span>', shown, row.last_error,
                           cut(row.last_error, 80))  # fmt: skip

    @admin.display(description="Attempts", ordering="attempts")
    def tries(self, row: Any) -> SafeString | str:
        """Show how often it was tried, and when it is next."""
        if row.state != DeliveryState.PENDING or not row.attempts:
            return str(row.attempts)
        soon = row.due_at <= row.shown_at
        when = "due now" if soon else format_html("next in {}", time_tag(row.due_at, now=row.shown_at))
        return format_html("{}, {}", row.attempts, when)

    @admin.display(description="Written", ordering="created_at")
    def when(self, row: Any) -> SafeString:
        """Show when it was written, and when it was last asked for again."""
        written = format_html('<span class="nowrap">{}</span>', time_tag(row.created_at, now=row.shown_at))
        if row.resent_at is None:
            return written
        again = time_tag(row.resent_at, now=row.shown_at)
        return format_html('{}<br><span class="muted small nowrap">again {}</span>', written, again)

    def get_urls(self) -> list[URLPattern]:
        """Return the list's address and those of our own pages."""
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="ops_delivery_changelist"),
            path("<int:delivery_id>/", wrap(delivery_view), name="ops_delivery_change"),
            path("<int:delivery_id>/resend/", wrap(resend_view), name="ops_delivery_resend"),
        ]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Let people in who may see alerts."""
        return rights.may_see(request.user)


def _found(request: HttpRequest, delivery_id: int) -> Delivery:
    if not rights.may_see(request.user):
        raise PermissionDenied
    row = Delivery.objects.select_related("channel", "person", "alert").filter(pk=delivery_id).first()
    if row is None:
        raise Http404("There is no such delivery.")
    return row


@require_GET
def delivery_view(request: HttpRequest, delivery_id: int) -> HttpResponse:
    """Show a delivery with its text; a digest's text is the person's own and is not shown."""
    row = _found(request, delivery_id)
    gathered = list(row.gathered.order_by("pk")[: GATHERED + 1])
    context = {
        "delivery": row,
        "badge": delivery_badge(row),
        "private": row.person_id is not None and row.person_id != request.user.pk,
        "gathered": gathered[:GATHERED],
        "more": len(gathered) > GATHERED,
        "may_act": rights.may_act(request.user),
        "now": db_now(),
        "back": list_query(request),
    }
    return render(request, "alerts/delivery_page.html", title=row.subject, context=context)


@require_POST
def resend_view(request: HttpRequest, delivery_id: int) -> HttpResponse:
    """Make a delivery due again."""
    row = _found(request, delivery_id)
    if not rights.may_act(request.user):
        raise PermissionDenied
    if outbox.resend(row.pk, by=request.user.get_username(), now=db_now()):
        messages.success(request, "It is due now; the worker sends it within a minute.")
    else:
        messages.info(request, "Nothing was changed: it is being sent right now.")
    return HttpResponseRedirect(reverse("admin:ops_delivery_change", args=[row.pk]))
