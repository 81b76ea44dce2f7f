"""Alerts over HTTP: list them, take one on."""

from typing import ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.idempotency import idempotent
from syncportal.access.keys import Scope
from syncportal.access.permissions import require_scope
from syncportal.access.problems import Problem
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.ops.alerts import alert_store, rights
from syncportal.ops.alerts.kinds import Kind
from syncportal.ops.alerts.models import Alert
from syncportal.ops.alerts.states import LIVE, AlertState, Severity
from syncportal.remote.models import Remote, Resource
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.shapes import Name, UtcTime


@extend_schema_serializer(component_name="Alert")
class AlertShape(serializers.Serializer):
    """One incident: what a rule found in one scope. `remote` and `resource` are null where it covers all of them."""

    id = serializers.IntegerField()
    rule = serializers.ChoiceField(choices=Kind.choices, source="kind")
    severity = serializers.ChoiceField(choices=Severity.choices)
    state = serializers.ChoiceField(choices=AlertState.choices)
    scope = serializers.CharField(source="scope_name")
    remote = Name(source="remote.slug", default=None)
    resource = Name(source="resource.slug", default=None)
    summary = serializers.CharField()
    value = serializers.FloatField()
    count = serializers.IntegerField(help_text="How often the rule found it.")
    reopenings = serializers.IntegerField()
    heldBack = serializers.SerializerMethodField()
    since = UtcTime()
    openedAt = UtcTime(source="opened_at")
    seenAt = UtcTime(source="seen_at")
    resolvedAt = UtcTime(source="resolved_at", allow_null=True)
    acknowledgedBy = serializers.SerializerMethodField()
    acknowledgedAt = UtcTime(source="acknowledged_at", allow_null=True)
    note = serializers.CharField()

    def get_heldBack(self, alert: Alert) -> str | None:
        """Return why no notice leaves although it is open: a silence, or a bigger trouble that explains it."""
        return alert.held_back or None

    def get_acknowledgedBy(self, alert: Alert) -> str | None:
        """Return who took it on."""
        return alert.acknowledged_label or None


class AcknowledgeBody(bodies.Body):
    """What the person says who takes it on."""

    note = serializers.CharField(required=False, default="", max_length=500, allow_blank=True)


def _remotes(request: object) -> QuerySet[Remote]:
    return Remote.objects.all()


def _resources(request: object) -> QuerySet[Resource]:
    return Resource.objects.all()


class AlertFilters(filters.FilterSet):
    """Filters of the list of alerts."""

    state = filters.MultipleChoiceFilter(choices=AlertState.choices, help_text="Several may be given: any of them.")
    live = filters.BooleanFilter(method="filter_live", help_text="true: open and acknowledged ones; false: the others.")
    severity = filters.MultipleChoiceFilter(choices=Severity.choices, help_text="Several may be given: any of them.")
    rule = filters.ChoiceFilter(field_name="kind", choices=Kind.choices)
    remote = filters.ModelChoiceFilter(queryset=_remotes, to_field_name="slug", help_text="Slug of a remote.")
    resource = filters.ModelChoiceFilter(queryset=_resources, to_field_name="slug", help_text="Slug of a resource.")

    class Meta:
        model = Alert
        fields: list[str] = []

    def filter_live(self, queryset: QuerySet, name: str, value: bool) -> QuerySet:
        """Return the alerts that go on, or those that are over."""
        return queryset.filter(state__in=sorted(LIVE)) if value else queryset.exclude(state__in=sorted(LIVE))


class AlertViews(ApiViews):
    """The rows of the contract under `/alerts/`."""

    queryset = Alert.objects.none()
    serializer_class = AlertShape
    filterset_class = AlertFilters
    scopes: ClassVar = {"acknowledge": acting.OPERATING}
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Alert]:
        """Return the alerts that the caller may see: all to who sees every record, else none."""
        return rights.visible_alerts(self.request.user).select_related("remote", "resource")

    def get_object(self) -> Alert:
        """Return the alert of the address; raises 404 outside of the caller's scope."""
        alert = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if alert is None:
            raise Problem(404, "not_found", "There is no such alert, or you may not see it.")
        return alert

    @extend_schema(summary="Alerts, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of alerts."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(summary="Take an alert on", request=AcknowledgeBody, responses={200: AlertShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Say that you are on it. It resolves itself. Needs the scope `operate`.

        409 `not_open` says that it is over, or who took it on before you.
        """
        alert = self.get_object()
        if not rights.may_act(request.user):
            raise acting.forbidden("Only operations may do this.")
        require_scope(request, Scope.OPERATE)
        body = bodies.read(AcknowledgeBody, request)
        if not alert_store.acknowledge(alert.pk, note=body["note"], actor=acting.actor_of(request), now=db_now()):
            now = self.get_object()
            detail = "It is over." if now.state == AlertState.RESOLVED else f"{now.acknowledged_label} has it."
            raise Problem(409, "not_open", detail, state=now.state)
        return Response(AlertShape(self.get_object()).data)
