"""Conflicts over HTTP: look at the three sides, and decide."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.idempotency import idempotent
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.access.views import ApiViews
from syncportal.sync import resolve
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.filters import ConflictFilters
from syncportal.sync.api.shapes import ConflictShape
from syncportal.sync.models import Conflict
from syncportal.sync.resolve import Action, Decision


class ConflictViews(ApiViews):
    """The rows of the contract under `/conflicts/`."""

    queryset = Conflict.objects.none()
    serializer_class = ConflictShape
    filterset_class = ConflictFilters
    scopes: ClassVar = {"resolve": acting.OPERATING}
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Conflict]:
        """Return the conflicts that the caller may see, with what a conflict shows."""
        rows = Conflict.objects.visible_to(self.request.user)
        return rows.select_related("resource__remote", "record__owner", "resolved_by")

    def get_object(self) -> Conflict:
        """Return the conflict of the address; raises 404 outside of the caller's scope."""
        conflict = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if conflict is None:
            raise Problem(404, "not_found", "There is no such conflict, or you may not see it.")
        return conflict

    @extend_schema(summary="Conflicts, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of the conflicts that the caller may see."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(summary="One conflict with its three sides", responses=ConflictShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one conflict; `revision` and `remoteVersion` go back with the decision."""
        return Response(ConflictShape(self.get_object()).data)

    @extend_schema(summary="Decide", request=bodies.ResolveBody, responses={200: ConflictShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def resolve(self, request: Request, pk: str) -> Response:
        """Settle a conflict: use the remote's values, push the local ones, or merge field by field.

        409 `stale_view` carries the fresh values when a side moved since you looked; 409 `already_resolved` says that
        somebody else was faster.
        """
        conflict = self.get_object()
        acting.require_operating(request, conflict.record)
        body = bodies.read(bodies.ResolveBody, request)
        decision = Decision(Action(body["action"]), body["revision"], body["remoteVersion"], body.get("fields") or {})
        if decision.fields and decision.action is not Action.MERGE:
            raise invalid_body([FieldProblem("/fields", "not_writable", "Fields are chosen for merge only.")])
        try:
            resolve.resolve(conflict.pk, decision, actor=acting.actor_of(request))
        except resolve.AlreadyResolved:
            raise Problem(
                409, "already_resolved", "This conflict was settled meanwhile.", **self._members(conflict.pk)
            ) from None
        except resolve.StaleView:
            raise Problem(
                409, "stale_view", "A side changed since you looked; these are the fresh values.",
                **self._members(conflict.pk),
            ) from None  # fmt: skip
        except resolve.ImpossibleDecision as refusal:
            raise invalid_body(
                [
                    FieldProblem(acting.field_pointer("fields", found.pointer), found.code, found.detail)
                    if found.pointer
                    else FieldProblem("/action", found.code, found.detail)
                    for found in refusal.problems
                ]
            ) from None
        return Response(ConflictShape(self.get_object()).data)

    def _members(self, conflict_id: int) -> dict[str, Any]:
        """Return what a refused decider needs to decide again."""
        shown = ConflictShape(self.get_queryset().get(pk=conflict_id)).data
        names = ("revision", "remoteVersion", "fields", "state", "resolution", "resolvedBy", "resolvedAt")
        return {name: shown[name] for name in names}
