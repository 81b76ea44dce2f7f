"""Bulk operations over HTTP: preview, start, follow, cancel, and what became of each row.

Guarantees: the rows are those that were frozen when the operation was made; its maker and operations see it, and only
its maker starts it. Does not: choose rows or act on them; the addresses that begin one and the worker do.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.idempotency import idempotent
from syncportal.access.keys import Scope
from syncportal.access.permissions import require_scope
from syncportal.access.problems import Problem
from syncportal.access.views import ApiViews
from syncportal.bulk import journal, work
from syncportal.bulk.acts import Act, Parameters, UnknownAct, act_of, preview_of
from syncportal.bulk.journal import NewOperation
from syncportal.bulk.models import BulkOperation, BulkRow
from syncportal.bulk.states import RowState, State
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.sync import bulk_acts, rights
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.shapes import Name, UtcTime


class CountedShape(serializers.Serializer):
    """Why rows were left out or failed, and how many."""

    why = serializers.CharField()
    count = serializers.IntegerField()


class BulkPreviewShape(serializers.Serializer):
    """What the operation would do now."""

    taken = serializers.IntegerField()
    leftOut = CountedShape(many=True)


@extend_schema_serializer(component_name="BulkOperation")
class BulkOperationShape(serializers.Serializer):
    """One act on many rows that were frozen when it was made; `preview` until it has begun.

    In lists `preview` and `notDone` are null: ask for the one operation.
    """

    id = serializers.IntegerField()
    act = serializers.CharField()
    state = serializers.ChoiceField(choices=State.choices)
    reason = serializers.CharField(help_text="Why it stopped or was cancelled.")
    ramp = serializers.BooleanField(help_text="Goes in steps of 1, 10, 100 and the rest.")
    total = serializers.IntegerField()
    done = serializers.IntegerField()
    skipped = serializers.IntegerField()
    failed = serializers.IntegerField()
    underWay = serializers.IntegerField(source="handed_over")
    waiting = serializers.IntegerField()
    notDone = serializers.SerializerMethodField()
    preview = serializers.SerializerMethodField()
    startedBy = Name(source="user_label")
    createdAt = UtcTime(source="created_at")
    startedAt = UtcTime(source="started_at", allow_null=True)
    finishedAt = UtcTime(source="finished_at", allow_null=True)

    @extend_schema_field(CountedShape(many=True, allow_null=True))
    def get_notDone(self, operation: BulkOperation) -> list[dict[str, Any]] | None:
        """Return why rows were left out or failed, the most frequent first; null in lists."""
        if self.context.get("user") is None:
            return None
        some = operation.skipped + operation.failed
        whys = journal.outcomes(operation, states=[RowState.SKIPPED, RowState.FAILED]) if some else []
        return [{"why": why, "count": count} for why, count in whys]

    @extend_schema_field(BulkPreviewShape(allow_null=True))
    def get_preview(self, operation: BulkOperation) -> dict[str, Any] | None:
        """Return what it would do, as long as it has not begun and where one operation is asked for."""
        user = self.context.get("user")
        if operation.state != State.DRAFT or user is None:
            return None
        ids = list(operation.rows.values_list("target_id", flat=True))
        seen = preview_of(_act_of(operation), ids, user=user, parameters=operation.parameters)
        left_out = [{"why": part.why, "count": part.count} for part in seen.left_out]
        return {"taken": seen.taken, "leftOut": left_out}


@extend_schema_serializer(component_name="BulkRow")
class BulkRowShape(serializers.Serializer):
    """One row of an operation, and what became of it."""

    target = serializers.IntegerField(source="target_id", help_text="The id of the record (or whatever it acts on).")
    state = serializers.ChoiceField(choices=RowState.choices)
    outcome = serializers.CharField()


class BulkOperationFilters(filters.FilterSet):
    """Filters of the list of bulk operations."""

    state = filters.MultipleChoiceFilter(choices=State.choices, help_text="Several may be given: any of them.")
    act = filters.CharFilter()

    class Meta:
        model = BulkOperation
        fields: list[str] = []


class BulkRowFilters(filters.FilterSet):
    """Filters of an operation's rows."""

    state = filters.MultipleChoiceFilter(choices=RowState.choices, help_text="Several may be given: any of them.")

    class Meta:
        model = BulkRow
        fields: list[str] = []


def require_acting(request: Request) -> None:
    """Let people act who act on records at all, operations with the scope for everybody's; else raise 403."""
    if not bulk_acts.may_act(request.user):
        raise acting.forbidden("Only owners and operations may do this.")
    if rights.operates(request.user):
        require_scope(request, Scope.OPERATE)


def begin(
    request: Request, act: Act, ids: Sequence[int], *, parameters: Parameters, draft: bool = False
) -> BulkOperation:
    """Freeze these rows for the caller, in steps, and start, unless it is a draft to be looked at first."""
    actor = acting.actor_of(request)
    new = NewOperation(
        act=act.name, target_ids=ids, user_id=actor.user_id, user_label=actor.label, user_kind=actor.kind, ramp=True,
        parameters=parameters,
    )  # fmt: skip
    operation = atomic_retry(lambda: journal.prepare(new, now=db_now()))
    if not draft:
        work.begin(operation.pk, parameters=dict(parameters))
        operation.refresh_from_db()
    return operation


def _act_of(operation: BulkOperation) -> Act:
    try:
        return act_of(operation.act)
    except UnknownAct:
        raise Problem(409, "unknown_act", "This version does not know that act any more.") from None


class BulkOperationViews(ApiViews):
    """The rows under `/bulk-operations/`."""

    queryset = BulkOperation.objects.none()
    serializer_class = BulkOperationShape
    filterset_class = BulkOperationFilters
    scopes: ClassVar = dict.fromkeys(("start", "cancel", "go_on"), acting.OPERATING)
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Any]:
        """Return the operations that the caller may see."""
        return rights.visible_operations(self.request.user)

    def get_object(self) -> BulkOperation:
        """Return the operation of the address; raises 404 outside of the caller's scope."""
        operation = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if operation is None:
            raise Problem(404, "not_found", "There is no such operation, or it is not yours.")
        return operation

    @extend_schema(summary="Bulk operations, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of operations: your own, and everybody's for operations."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(BulkOperationShape(page, many=True).data)

    @extend_schema(summary="One bulk operation, live", responses=BulkOperationShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one operation as it stands now; poll it until `state` is not `running`."""
        return self._shown(self.get_object())

    @extend_schema(summary="What became of each row", responses=BulkRowShape(many=True))
    @action(detail=True, queryset=BulkRow.objects.none(), filterset_class=BulkRowFilters)
    def rows(self, request: Request, pk: str) -> Response:
        """Return a page of an operation's rows, the last one first."""
        page = self.paginate_queryset(self.filter_queryset(self.get_object().rows.all()))
        return self.get_paginated_response(BulkRowShape(page, many=True).data)

    @extend_schema(summary="Start a preview", request=bodies.NoBody, responses={202: BulkOperationShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def start(self, request: Request, pk: str) -> Response:
        """Let an operation begin that was made with `dryRun`, on exactly the rows that it froze.

        409 `not_a_draft` when it has begun; `needs_parameters` when its act asks a person for more.
        """
        operation = self._own(request)
        if _act_of(operation).form is not None:
            raise Problem(409, "needs_parameters", "This act asks for more than a start: start it in the browser.")
        return self._moved(
            operation, lambda: work.begin(operation.pk, parameters=operation.parameters),
            Problem(409, "not_a_draft", "It has begun already, or was cancelled."),
        )  # fmt: skip

    @extend_schema(summary="Go on after a stop", request=bodies.NoBody, responses={202: BulkOperationShape})
    @action(detail=True, methods=["post"], url_path="go-on")
    @idempotent
    def go_on(self, request: Request, pk: str) -> Response:
        """Let an operation that stopped at a failure go on with all that is left. 409 `not_stopped` otherwise."""
        operation = self._own(request)
        return self._moved(
            operation, lambda: work.go_on(operation.pk), Problem(409, "not_stopped", "It is not stopped.")
        )

    @extend_schema(summary="Cancel a bulk operation", request=bodies.NoBody, responses=BulkOperationShape)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: str) -> Response:
        """End an operation where it is; what was done stays done. 409 `ended` when it had ended before."""
        require_acting(request)
        operation = self.get_object()
        bodies.read(bodies.NoBody, request)
        by, ended = acting.actor_of(request).label, Problem(409, "ended", "It had ended before.")
        return self._moved(operation, lambda: work.cancel(operation.pk, by=by), ended, status=200)

    def _own(self, request: Request) -> BulkOperation:
        """Return the operation of the address if the caller made it and may still act."""
        require_acting(request)
        operation = self.get_object()
        if operation.user_id != request.user.pk or not _act_of(operation).may(request.user):
            raise acting.forbidden("Only who made it lets it run.")
        bodies.read(bodies.NoBody, request)
        return operation

    def _moved(
        self, operation: BulkOperation, move: Callable[[], bool], refusal: Problem, *, status: int = 202
    ) -> Response:
        if not move():
            raise refusal
        operation.refresh_from_db()
        return self._shown(operation, status=status)

    def _shown(self, operation: BulkOperation, *, status: int = 200) -> Response:
        return Response(BulkOperationShape(operation, context={"user": self.request.user}).data, status=status)
