"""Error groups over HTTP: list and look, look away for a while, note what is known.

Guarantees: owners see groups that affect own records, and only those numbers; acts need operations and the scope
`operate`; retrying freezes the records that the caller may retry. Does not: retry; the bulk operation does.
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
from syncportal.bulk.acts import MOST
from syncportal.kernel.clock import db_now
from syncportal.remote.models import Remote
from syncportal.sync import error_groups, error_reading, rights
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.bulk_operations import BulkOperationShape, begin, require_acting
from syncportal.sync.api.shapes import UtcTime
from syncportal.sync.bulk_acts import REQUEUE
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.error_states import LONGEST_NOTE, LONGEST_WHY, GroupState
from syncportal.sync.models import Record
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


class ErrorRetryBody(bodies.Body):
    """Whether to look first."""

    dryRun = serializers.BooleanField(
        required=False, default=False, help_text="Freeze the records and show what would happen; start it later."
    )


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


def _act(name: str, does: Callable[..., None], shape: type[bodies.Body], *, summary: str, about: str) -> Any:
    """Make the method for an act of operations; `does` is given the members of the body by their names."""

    def act(self: "ErrorGroupViews", request: Request, pk: str) -> Response:
        group = self.get_object()
        if not rights.operates(request.user):
            raise acting.forbidden("Only operations may do this.")
        require_scope(request, Scope.OPERATE)
        given = bodies.read(shape, request)
        try:
            does(group.pk, **given, actor=acting.actor_of(request))
        except error_groups.NotPossible as why:
            place = "".join(f"/{name}" for name in given)
            raise invalid_body([FieldProblem(place, "invalid", str(why))]) from None
        return Response(_shown(request.user, [self.get_object()])[0])

    act.__name__, act.__doc__ = name, f"{about} Needs operations and the scope `operate`."
    described = extend_schema(summary=summary, request=shape, responses={200: ErrorGroupShape})
    return described(action(detail=True, methods=["post"])(idempotent(act)))


class ErrorGroupViews(ApiViews):
    """The rows under `/error-groups/`."""

    queryset = ErrorGroup.objects.none()
    serializer_class = ErrorGroupShape
    filterset_class = ErrorGroupFilters
    scopes: ClassVar = dict.fromkeys(("snooze", "ignore", "watch", "note", "retry"), acting.OPERATING)
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

    snooze = _act(
        "snooze", error_groups.snooze, ErrorSnoozeBody, summary="Look away until a time",
        about="Snooze a group; it is counted all the same.",
    )  # fmt: skip
    ignore = _act(
        "ignore", error_groups.ignore, ErrorIgnoreBody, summary="Ignore until it changes",
        about="Ignore a group until it affects more records than now, or comes back after it was over.",
    )  # fmt: skip
    watch = _act(
        "watch", error_groups.watch_again, bodies.NoBody, summary="End snoozing or ignoring",
        about="Let a group count as open again.",
    )  # fmt: skip
    note = _act(
        "note", error_groups.write_note, ErrorNoteBody, summary="Keep a note with it",
        about="Replace the note, for everybody who sees the group.",
    )  # fmt: skip

    @extend_schema(
        summary="Retry what it affects, in steps", request=ErrorRetryBody, responses={202: BulkOperationShape}
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: str) -> Response:
        """Requeue the records that fail for this cause now: 1, 10, 100, then the rest; stops at the first that fails.

        Exactly the records of this moment are frozen, at most 20,000; follow the bulk operation. With `dryRun` it waits
        as a preview until it is started.
        """
        group = self.get_object()
        require_acting(request)
        body = bodies.read(ErrorRetryBody, request)
        rows = Record.objects.visible_to(request.user).filter(job__error_group=group.pk)
        rows = rows if rights.operates(request.user) else rows.filter(owner_id=request.user.pk)
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:MOST])
        if not ids:
            raise Problem(409, "nothing_to_retry", "No record that you may retry fails for this cause any more.")
        operation = begin(request, REQUEUE, ids, parameters={"error_group": str(group.pk)}, draft=body["dryRun"])
        return Response(BulkOperationShape(operation, context={"user": request.user}).data, status=202)


def _shown(user: Person, groups: Sequence[Any]) -> list[Any]:
    """Return groups as the person may see them: to somebody who sees own records, only their failures count."""
    if not sees_everything(user):
        spans = error_reading.own_span(user, [group.pk for group in groups])
        for group in groups:
            first, last, number = spans.get(group.pk, (None, None, 0))
            group.first_seen_at, group.last_seen_at, group.occurrences = first, last, number
    return list(ErrorGroupShape(groups, many=True).data)
