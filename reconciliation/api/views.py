"""Runs and discrepancies over HTTP: start, follow, cancel, apply a plan, repair, ignore.

Guarantees: a run shows only to who sees every record, a discrepancy to who sees its record.
Does not: compare or repair; `runs`, `fixing` and `repairs` do.
"""

from typing import ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from reconciliation import fixing, repairs, runs
from reconciliation.api.filters import DiscrepancyFilters, RunFilters
from reconciliation.api.shapes import (
    AppliedShape,
    DiscrepancyShape,
    FixBody,
    IgnoreBody,
    RunShape,
    StartBody,
    discrepancy,
)
from reconciliation.fixing import NotFixed
from reconciliation.journal import AlreadyRunning
from reconciliation.models import Discrepancy, Run
from syncportal.access.idempotency import idempotent
from syncportal.access.keys import Scope
from syncportal.access.permissions import require_scope
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.access.views import ApiViews
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.models import Resource
from syncportal.sync import rights
from syncportal.sync.api import acting, bodies
from syncportal.sync.slots import NoSlot

_BUSY_S, _UNAVAILABLE_S = "5", "30"


def _require_operator(request: Request) -> None:
    if not rights.operates(request.user):
        raise acting.forbidden("Only operations may do this.")
    require_scope(request, Scope.OPERATE)


class RunViews(ApiViews):
    """The rows of the contract under `/reconciliation-runs/`."""

    queryset = Run.objects.none()
    serializer_class = RunShape
    filterset_class = RunFilters
    scopes: ClassVar = {"create": acting.OPERATING, "apply": acting.OPERATING, "cancel": acting.OPERATING}
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Run]:
        """Return the runs that the caller may see."""
        return Run.objects.visible_to(self.request.user).select_related("resource", "started_by")

    def get_object(self) -> Run:
        """Return the run of the address; raises 404 outside of the caller's scope."""
        run = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if run is None:
            raise Problem(404, "not_found", "There is no such run, or you may not see it.")
        return run

    @extend_schema(summary="Runs, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of runs."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(RunShape(page, many=True).data)

    @extend_schema(summary="One run, live", responses=RunShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one run as it stands now; poll it until `state` is not `running`."""
        return Response(RunShape(self.get_object()).data)

    @extend_schema(summary="Compare both sides of a resource", request=StartBody, responses={202: RunShape})
    @idempotent
    def create(self, request: Request) -> Response:
        """Begin a run in the background and return it. Needs the scope `operate`.

        409 `already_running` names the run that compares the resource right now.
        """
        _require_operator(request)
        body = bodies.read(StartBody, request)
        resource = Resource.objects.select_related("remote").filter(slug=body["resource"]).first()
        if resource is None:
            raise invalid_body([FieldProblem("/resource", "does_not_exist", "There is no resource of this name.")])
        try:
            run = runs.start(
                resource, actor=acting.actor_of(request), dry_run=body["dryRun"], record_ids=body.get("records")
            )
        except AlreadyRunning as refused:
            raise Problem(409, "already_running", str(refused), run=refused.run_id,
                          headers={"Retry-After": _BUSY_S}) from None  # fmt: skip
        except runs.NotPossible as refused:
            raise invalid_body([FieldProblem("/records", refused.code, str(refused))]) from None
        return Response(RunShape(run).data, status=202)

    @extend_schema(summary="Cancel a running run", request=bodies.NoBody, responses=RunShape)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: str) -> Response:
        """End a run early and return it; what it found and repaired until then stays. Needs the scope `operate`.

        409 `not_running` when it is at its end already.
        """
        run = self.get_object()
        _require_operator(request)
        bodies.read(bodies.NoBody, request)
        try:
            runs.cancel(run.pk, actor=acting.actor_of(request))
        except runs.NotPossible as refused:
            raise Problem(409, refused.code, str(refused)) from None
        return Response(RunShape(self.get_object()).data)

    @extend_schema(summary="Apply a dry run's plan", request=bodies.NoBody, responses={202: AppliedShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def apply(self, request: Request, pk: str) -> Response:
        """Make exactly the repairs that the dry run planned; rows that moved since are skipped and say so.

        409 with the codes `still_running`, `braked`, `failed`, `cancelled`, `not_a_dry_run`, `already_applied`,
        `superseded`.
        """
        run = self.get_object()
        _require_operator(request)
        bodies.read(bodies.NoBody, request)
        try:
            repairs_asked_for = runs.apply_plan(run.pk, actor=acting.actor_of(request))
        except runs.NotPossible as refused:
            raise Problem(409, refused.code, str(refused)) from None
        shown = AppliedShape(self.get_object(), context={"repairs": repairs_asked_for})
        return Response(shown.data, status=202)


class DiscrepancyViews(ApiViews):
    """The rows of the contract under `/discrepancies/`."""

    queryset = Discrepancy.objects.none()
    serializer_class = DiscrepancyShape
    filterset_class = DiscrepancyFilters
    scopes: ClassVar = {"fix": acting.OPERATING, "ignore": acting.OPERATING}
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Discrepancy]:
        """Return the discrepancies that the caller may see."""
        return Discrepancy.objects.visible_to(self.request.user).select_related("resource", "record")

    def get_object(self) -> Discrepancy:
        """Return the discrepancy of the address; raises 404 outside of the caller's scope."""
        row = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if row is None:
            raise Problem(404, "not_found", "There is no such discrepancy, or you may not see it.")
        return row

    @extend_schema(summary="Discrepancies, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of discrepancies; `state=open` are those that wait for somebody."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(DiscrepancyShape(page, many=True).data)

    @extend_schema(summary="One discrepancy", responses=DiscrepancyShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one discrepancy."""
        return Response(discrepancy(self.get_object()))

    @extend_schema(
        summary="Repair one discrepancy",
        request=FixBody,
        responses={
            200: DiscrepancyShape,
            502: OpenApiResponse(description="The remote could not be read: nothing was changed."),
            503: OpenApiResponse(description="The remote is paused, or its breaker is open: nothing was changed."),
        },
    )
    @action(detail=True, methods=["post"])
    @idempotent(in_transaction=False)
    def fix(self, request: Request, pk: str) -> Response:
        """Take the remote's values, or push ours, if both sides still are what was found.

        The object is read once more first. 409: `moved` when a side changed since, `record_busy` while it is being
        sent, held or waits for a decision, `not_possible`, `already_settled`.
        """
        row = self._operable(request)
        body = bodies.read(FixBody, request)
        try:
            fixed = fixing.fix(row.pk, direction=body["direction"], actor=acting.actor_of(request))
        except NotFixed as refused:
            headers = {"Retry-After": _BUSY_S} if refused.code == fixing.BUSY else {}
            if refused.code == fixing.UNREADABLE:
                raise Problem(502, "remote_failed", str(refused)) from None
            raise Problem(409, refused.code, str(refused), headers=headers) from None
        except (NoSlot, Misconfiguration, RemoteError) as refused:
            raise Problem(503, "remote_unavailable", str(refused), headers={"Retry-After": _UNAVAILABLE_S}) from None
        return Response(discrepancy(fixed))

    @extend_schema(summary="Ignore one until it changes", request=IgnoreBody, responses=DiscrepancyShape)
    @action(detail=True, methods=["post"])
    @idempotent
    def ignore(self, request: Request, pk: str) -> Response:
        """Accept a difference until it changes, and say why. 409 `already_settled` when it is not open any more."""
        row = self._operable(request)
        body = bodies.read(IgnoreBody, request)
        if not repairs.ignore([row.pk], reason=body["reason"], actor=acting.actor_of(request)):
            raise Problem(409, fixing.ALREADY, "It is not open any more; nothing was changed.")
        return Response(discrepancy(self.get_object()))

    def _operable(self, request: Request) -> Discrepancy:
        row = self.get_object()
        if row.record is None:
            _require_operator(request)
        else:
            acting.require_operating(request, row.record)
        return row
