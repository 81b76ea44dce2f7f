"""Records over HTTP: list, make, look, change, delete, try again, read again, timeline.

Guarantees: answers at once and never waits for a remote, except `refresh`, which reads inline; records out of the
caller's scope do not exist (404). Does not: change anything by itself; `local`, `operate` and `refresh` do.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from syncportal.access.idempotency import idempotent
from syncportal.access.paging import CURSOR_PARAM, bad_cursor, opened, page_size, page_url, sealed
from syncportal.access.parsing import MergePatchParser, StrictJsonParser
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry
from syncportal.remote import limits
from syncportal.remote.errors import Misconfiguration
from syncportal.remote.models import Resource
from syncportal.sync import local, operate, refresh, rights, timeline
from syncportal.sync.api import acting, bodies
from syncportal.sync.api.filters import RecordFilters
from syncportal.sync.api.shapes import RecordShape, RecordWithConflictShape, TimelineShape
from syncportal.sync.models import Conflict, Record
from syncportal.sync.refresh import Refreshed
from syncportal.sync.states import Status

_IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag of the revision you looked at; else 412."
)
_MOVED = {412: OpenApiResponse(description="The record stands at another revision than If-Match says.")}
_WAITS = OpenApiResponse(RecordWithConflictShape, description="Kept; an open conflict must be resolved first.")


class RecordViews(ApiViews):
    """The rows of the contract under `/records/`."""

    queryset = Record.objects.none()
    serializer_class = RecordShape
    filterset_class = RecordFilters
    scopes: ClassVar = {"retry": acting.OPERATING, "refresh": acting.OPERATING}
    parser_classes = [StrictJsonParser, MergePatchParser]
    lookup_value_regex = "[0-9]{1,18}"

    def get_queryset(self) -> QuerySet[Record]:
        """Return the records that the caller may see, with what a record shows."""
        rows = Record.objects.visible_to(self.request.user)
        return rows.select_related("resource__remote", "owner", "job").filter(job__isnull=False)

    def get_object(self) -> Record:
        """Return the record of the address, filters aside; raises Http404 outside of the caller's scope."""
        record = self.get_queryset().filter(pk=int(self.kwargs["pk"])).first()
        if record is None:
            raise Problem(404, "not_found", "There is no such record, or you may not see it.")
        return record

    @extend_schema(summary="Records, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of the records that the caller may see."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(self.get_serializer(page, many=True).data)

    @extend_schema(summary="Make a record", request=bodies.CreateBody, responses={201: RecordShape})
    @idempotent
    def create(self, request: Request) -> Response:
        """Make a record that will be created at the remote."""
        if not rights.may_create(request.user):
            raise acting.forbidden("You may not make records; the role 'Record owners' or 'Operations' may.")
        body = bodies.read(bodies.CreateBody, request)
        owner_id = acting.owner_id_of(request, body["owner"]) if "owner" in body else request.user.pk
        resource = Resource.objects.select_related("remote").filter(slug=body["resource"]).first()
        if resource is None:
            raise invalid_body([FieldProblem("/resource", "does_not_exist", "There is no such resource.")])
        with acting.refusals_answered():
            saved = local.create(resource, body["data"], actor=acting.actor_of(request), owner_id=owner_id)
        answer = self._answer(saved.record_id, status=201)
        answer["Location"] = reverse("api:record-detail", args=[saved.record_id], request=request)
        return answer

    @extend_schema(summary="One record", responses=RecordShape)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Return one record; `ETag` is its revision, for If-Match. A deleted one shows its deletedAt."""
        return self._shown(self.get_object())

    @extend_schema(
        summary="Change a record",
        request={"application/json": bodies.PatchBody, "application/merge-patch+json": bodies.PatchBody},
        parameters=[_IF_MATCH],
        responses={200: RecordShape, 202: _WAITS, **_MOVED},
    )
    def partial_update(self, request: Request, pk: str) -> Response:
        """Merge `data` (RFC 7396; null removes a key) and push it in the background.

        The answer is 202 with the conflict's id when a conflict is open: the edit is kept as its local side.
        """
        record = self.get_object()
        body = bodies.read(bodies.PatchBody, request)
        if "data" in body and not rights.may_edit(request.user, record):
            raise acting.forbidden("Only the record's owner and operations may change it.")
        owner = (acting.owner_id_of(request, body["owner"]),) if "owner" in body else ()
        revision = acting.expected_revision(request, record)
        actor = acting.actor_of(request)

        def work() -> None:
            if "data" in body:
                local.save(local.Edit(record.pk, body["data"], revision=revision), actor=actor)
            for owner_id in owner:
                operate.assign([record.pk], owner_id=owner_id, actor=actor)

        with acting.refusals_answered():
            atomic_retry(work)
        return self._answer(record.pk)

    @extend_schema(
        summary="Delete a record on both sides",
        parameters=[_IF_MATCH],
        responses={200: RecordShape, 202: _WAITS, **_MOVED},
    )
    def destroy(self, request: Request, pk: str) -> Response:
        """Mark the record for deletion at the remote; `deletedAt` is set once the remote confirmed it.

        The answer is 202 with the conflict's id when a conflict is open.
        """
        record = self.get_object()
        if not rights.may_delete(request.user, record):
            raise acting.forbidden("Only the record's owner and operations may delete it.")
        edit = local.Edit(record.pk, revision=acting.expected_revision(request, record), delete=True)
        with acting.refusals_answered():
            local.save(edit, actor=acting.actor_of(request))
        return self._answer(record.pk)

    @extend_schema(summary="Try again", request=bodies.RetryBody, responses={200: RecordShape})
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: str) -> Response:
        """Give a stopped or waiting record another try with all attempts."""
        record = self.get_object()
        acting.require_operating(request, record)
        body = bodies.read(bodies.RetryBody, request)
        if (body["sendAgain"] or body["linkTo"]) and record.job.reason != "create_unknown":
            raise Problem(409, "not_in_doubt", "Only a record whose creation is unknown is linked or sent again.")
        if body["linkTo"]:
            try:
                operate.link(record.pk, body["linkTo"], actor=acting.actor_of(request))
            except operate.LinkRefused as refusal:
                raise invalid_body([FieldProblem("/linkTo", "refused", str(refusal))]) from None
            return self._answer(record.pk)
        done = operate.requeue([record.pk], actor=acting.actor_of(request), forget_sends=body["sendAgain"])
        if not done.moved:
            status = Record.objects.values_list("job__status", flat=True).get(pk=record.pk)
            raise Problem(
                409, "not_requeueable", f"A record in {status} is not tried again by hand.", recordStatus=status
            )
        return self._answer(record.pk)

    @extend_schema(summary="Read again from the remote", request=bodies.NoBody, responses={200: RecordShape})
    @action(detail=True, methods=["post"])
    @idempotent(in_transaction=False)
    def refresh(self, request: Request, pk: str) -> Response:
        """Read the object now and apply it, unless something changed here meanwhile."""
        record = self.get_object()
        acting.require_operating(request, record)
        bodies.read(bodies.NoBody, request)
        now = db_now()
        block = limits.blocked(now).get(record.resource.remote_id)
        if block is not None:
            wait = max(1, int((block.until - now).total_seconds())) if block.until else 60
            raise Problem(503, "remote_unavailable", "The remote is paused or not reachable; nothing was read.",
                          headers={"Retry-After": str(wait)})  # fmt: skip
        try:
            result = refresh.refresh(record.pk, resource=record.resource, actor=acting.actor_of(request))
        except Misconfiguration as problem:
            raise Problem(409, "misconfigured", str(problem)) from None
        refused = _REFUSED_REFRESH.get(result.outcome)
        if refused is not None:
            status, code = refused
            headers = {"Retry-After": "2"} if status == 409 and code != "not_sent_yet" else {}
            raise Problem(status, code, result.detail, headers=headers)
        return self._answer(record.pk, conflict=False)

    @extend_schema(
        summary="Everything that happened to the record",
        responses=TimelineShape(many=True),
        filters=False,
    )
    @action(detail=True, methods=["get"], filterset_class=None)
    def timeline(self, request: Request, pk: str) -> Response:
        """Return a page of the record's events, exchanges and conflicts, newest first."""
        record = self.get_object()
        self.filter_queryset(Record.objects.none())
        cursor = request.query_params.get(CURSOR_PARAM)
        size = page_size(request)
        before = _position(cursor) if cursor is not None else None
        found = timeline.entries(record.pk, before=before, limit=size + 1)
        shown, last = found[:size], found[size - 1].position if len(found) > size else None
        more = sealed(f"{last.at.astimezone(UTC).isoformat()} {last.kind} {last.id}") if last else None
        results = TimelineShape(shown, many=True).data
        return Response({"next": page_url(request, more), "previous": None, "results": results})

    def _answer(self, record_id: int, *, status: int = 200, conflict: bool = True) -> Response:
        """Return the record as it stands now; 202 with the conflict's id when an open one keeps it from the remote."""
        rows = Record.objects.select_related("resource__remote", "owner", "job")
        record = rows.get(pk=record_id)
        if conflict and status == 200 and record.job.status == Status.VERSION_CONFLICT:
            open_one = Conflict.objects.open().filter(record_id=record_id).values_list("pk", flat=True).first()
            return self._shown(record, status=202, conflict=open_one)
        return self._shown(record, status=status)

    def _shown(self, record: Record, *, status: int = 200, **members: Any) -> Response:
        data = dict(RecordShape(record).data) | members  # type: ignore[call-overload]
        return Response(data, status=status, headers={"ETag": f'"{record.revision}"'})


_REFUSED_REFRESH: dict[Refreshed, tuple[int, str]] = {
    Refreshed.BUSY: (409, "record_busy"),
    Refreshed.MOVED: (409, "record_moved"),
    Refreshed.NOT_SENT_YET: (409, "not_sent_yet"),
    Refreshed.INVALID: (502, "invalid_response"),
    Refreshed.FAILED: (502, "remote_failed"),
}


def _position(cursor: str) -> timeline.Position:
    try:
        at, kind, number = opened(cursor).split(" ")
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None or kind not in ("event", "syncLog", "conflict") or not 0 < int(number) < 2**62:
            raise ValueError(cursor)
        return timeline.Position(moment, kind, int(number))
    except ValueError:
        raise bad_cursor() from None
