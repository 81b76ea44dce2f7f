"""Error groups over HTTP: list and look, look away for a while, note what is known.

Guarantees: owners see groups that affect own records, and only those numbers; acts need operations and the scope
`operate`. Does not: retry; records do, one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

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
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.remote.models import Remote
from syncportal.sync import error_groups, error_reading, rights
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.shapes import UtcTime
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.error_states import LONGEST_NOTE, LONGEST_WHY, GroupState
from syncportal.sync.querysets import Person, sees_everything

_LARGEST = 2**63


@extend_schema_serializer(component_name="ErrorGroup")
class ErrorGroupShape(serializers.Serializer):
    """Failures with one cause at one remote. `affected` counts the records in your scope that fail for it now."""

    id = serializers.CharField(source="pk", help_text="A number too large for some parsers, therefore text.")
    remote = serializers.CharField(source="remote.slug")
    kind = serializers.CharField(help_text="The class of the error.")
    code = serializers.CharField()
    message = serializers.CharField(help_text="Without numbers, ids, times and quoted values.")
    state = serializers.ChoiceField(choices=GroupState.choices)
    affected = serializers.IntegerField()
    occurrences = serializers.IntegerField(help_text="Failed attempts ever, as far as they are kept.")
    firstSeenAt = UtcTime(source="first_seen_at", allow_null=True)
    lastSeenAt = UtcTime(source="last_seen_at", allow_null=True)
    note = serializers.CharField()
    snoozedUntil = UtcTime(source="snoozed_until", allow_null=True)
    ignoredAt = UtcTime(source="ignored_at", allow_null=True)
    ignoredWhy = serializers.CharField(source="ignored_why")


class ErrorSnoozeBody(bodies.Body):
    """Until when to look away."""

    until = serializers.DateTimeField()


class ErrorIgnoreBody(bodies.Body):
    """Why it may be ignored until it affects more records than now."""

    why = serializers.CharField(max_length=LONGEST_WHY)


class ErrorNoteBody(bodies.Body):
    """What the next person should know; empty removes the note."""

    note = serializers.CharField(max_length=LONGEST_NOTE, allow_blank=True)


def _remotes(request: object) -> QuerySet[Remote]:
    return Remote.objects.all()


class ErrorGroupFilters(filters.FilterSet):
    """Filters of the list of error groups."""

    state = filters.MultipleChoiceFilter(choices=GroupState.choices, help_text="Several may be given: any of them.")
    remote = filters.ModelChoiceFilter(queryset=_remotes, to_field_name="slug", help_text="Slug of a remote.")
    kind = filters.CharFilter()
    code = filters.CharFilter()

    class Meta:
        model = ErrorGroup
        fields: list[str] = []


class ErrorGroupViews(ApiViews):
    """The rows under `/error-groups/`."""

    queryset = ErrorGroup.objects.none()
    serializer_class = ErrorGroupShape
    filterset_class = ErrorGroupFilters
    scopes: ClassVar = dict.fromkeys(("snooze", "ignore", "watch", "note"), acting.OPERATING)
    lookup_value_regex = "[0-9]{1,19}"

    def get_queryset(self) -> QuerySet[Any]:
        """Return the groups that the caller may see, with their numbers and states."""
        rows = error_reading.groups_of(self.request.user, now=db_now()).select_related("remote")
        return rows.defer("remote__secret", "remote__config")

    def get_object(self) -> Any:
        """Return the group of the address; raises 404 outside of the caller's scope."""
        pk = int(self.kwargs["pk"])
        group = self.get_queryset().filter(pk=pk).first() if pk < _LARGEST else None
        if group is None:
            raise Problem(404, "not_found", "There is no such error group, or none of your records is affected by it.")
        return group

    @extend_schema(summary="Error groups, in a stable order")
    def list(self, request: Request) -> Response:
        """Return a page of error groups; `state=open` are those that ask for attention."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(_shown(request.user, page or []))

    @extend_schema(summary="One error group", responses=ErrorGroupShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one error group."""
        return Response(_shown(request.user, [self.get_object()])[0])

    @extend_schema(summary="Look away until a time", request=ErrorSnoozeBody, responses={200: ErrorGroupShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def snooze(self, request: Request, pk: str) -> Response:
        """Snooze a group; it is counted all the same. Needs operations and the scope `operate`."""
        return self._acted(
            request, ErrorSnoozeBody, "until",
            lambda group_id, given: error_groups.snooze(group_id, until=given, actor=acting.actor_of(request)),
        )  # fmt: skip

    @extend_schema(summary="Ignore until it changes", request=ErrorIgnoreBody, responses={200: ErrorGroupShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def ignore(self, request: Request, pk: str) -> Response:
        """Ignore a group until it affects more records than now, or comes back after it was over."""
        return self._acted(
            request, ErrorIgnoreBody, "why",
            lambda group_id, given: error_groups.ignore(group_id, why=given, actor=acting.actor_of(request)),
        )  # fmt: skip

    @extend_schema(summary="End snoozing or ignoring", request=bodies.NoBody, responses={200: ErrorGroupShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def watch(self, request: Request, pk: str) -> Response:
        """Let a group count as open again. Needs operations and the scope `operate`."""
        return self._acted(
            request, bodies.NoBody, "",
            lambda group_id, given: error_groups.watch_again(group_id, actor=acting.actor_of(request)),
        )  # fmt: skip

    @extend_schema(summary="Keep a note with it", request=ErrorNoteBody, responses={200: ErrorGroupShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def note(self, request: Request, pk: str) -> Response:
        """Replace the note, for everybody who sees the group. Needs operations and the scope `operate`."""
        return self._acted(
            request, ErrorNoteBody, "note",
            lambda group_id, given: error_groups.write_note(group_id, note=given, actor=acting.actor_of(request)),
        )  # fmt: skip

    def _acted(
        self, request: Request, shape: type[bodies.Body], name: str, act: Callable[[int, Any], None]
    ) -> Response:
        group = self.get_object()
        if not rights.operates(request.user):
            raise acting.forbidden("Only operations may do this.")
        require_scope(request, Scope.OPERATE)
        given = bodies.read(shape, request).get(name)
        try:
            act(group.pk, given)
        except error_groups.NotPossible as why:
            raise invalid_body([FieldProblem(f"/{name}" if name else "", "invalid", str(why))]) from None
        return Response(_shown(request.user, [self.get_object()])[0])


def _shown(user: Person, groups: Sequence[Any]) -> list[Any]:
    """Return groups as the person may see them: to somebody who sees own records, only their failures count."""
    if not sees_everything(user):
        spans = error_reading.own_span(user, [group.pk for group in groups])
        for group in groups:
            first, last, number = spans.get(group.pk, (None, None, 0))
            group.first_seen_at, group.last_seen_at, group.occurrences = first, last, number
    return list(ErrorGroupShape(groups, many=True).data)
