"""Grouped updates and compensating tasks over HTTP, exactly as docs/grouped-updates.md promises.

Guarantees: a refused request has stored and sent nothing; a requestId has one effect, and its replay answers what the
request has become. Does not: decide anything; `service.perform` and `operate` do.
"""

import re
import uuid
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from rollback import accept, answers, holding, operate, service, visibility
from rollback.api.filters import GroupedUpdateFilters, TaskFilters
from rollback.api.parsing import GroupedBodyParser
from rollback.api.shapes import GroupedUpdateBody, GroupedUpdateShape, TaskShape, ValidatedShape
from rollback.models import CompensatingTask, GroupedUpdate
from rollback.plan import MAX_ID, MAX_STEPS, InvalidPlan, TooManySteps
from syncportal.access.idempotency import HEADER, idempotent
from syncportal.access.keys import Scope
from syncportal.access.permissions import require_scope
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.access.views import ApiViews
from syncportal.kernel.clock import db_now
from syncportal.remote import limits
from syncportal.remote.errors import Misconfiguration, RemoteError
from syncportal.remote.models import Resource
from syncportal.sync import rights
from syncportal.sync.api import acting, bodies
from syncportal.sync.validation import Problem as Finding

REPLAYED: Final = {"Idempotent-Replayed": "true"}
BUSY_S, RUNNING_S, UNAVAILABLE_S = 2, 1, 5
LONGEST_WAIT_S = 300
_KEY: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_ID}}}")
_ANSWER: Final = PolymorphicProxySerializer("GroupedUpdateAnswer", [GroupedUpdateShape, ValidatedShape], None)


class GroupedUpdateViews(ApiViews):
    """The rows of the contract under `/grouped-updates/`."""

    queryset = GroupedUpdate.objects.none()
    serializer_class = GroupedUpdateShape
    filterset_class = GroupedUpdateFilters
    parser_classes = [GroupedBodyParser]
    lookup_url_kwarg = "requestId"
    lookup_value_regex = ".+"

    def get_queryset(self) -> QuerySet[GroupedUpdate]:
        """Return the requests that the caller may see."""
        return visibility.requests_of(self.request.user)

    @extend_schema(summary="Grouped updates, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of requests, each with its live state."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response(answers.render_all(page or []))

    @extend_schema(
        summary="One grouped update, live",
        responses=GroupedUpdateShape,
        parameters=[OpenApiParameter("requestId", OpenApiTypes.STR, OpenApiParameter.PATH)],
    )
    def retrieve(self, request: Request, requestId: str) -> Response:
        """Return the request as it stands now; poll it until `reconciliationTaskCount` is 0.

        A requestId is unique per user: who sees all gets an own request first, else the newest.
        """
        rows = list(self.get_queryset().filter(request_id=requestId)[:50])
        if not rows:
            raise Problem(404, "not_found", "There is no such request, or you may not see it.")
        mine = next((row for row in rows if row.user_id == request.user.pk), rows[0])
        return Response(answers.render(mine))

    @extend_schema(
        summary="Change several objects as one",
        request=GroupedUpdateBody,
        responses={
            200: OpenApiResponse(_ANSWER, description="Every group is applied, or `validateOnly` found nothing wrong."),
            207: OpenApiResponse(GroupedUpdateShape, description="At least one group is not applied: see each."),
            503: OpenApiResponse(description="A remote is paused or does not answer: nothing was stored or sent."),
        },
    )
    def create(self, request: Request) -> Response:
        """Apply each group completely, or undo what was sent: atomic by compensation, not isolated.

        422 lists all problems and nothing was sent. 409 `record_busy` names the records in use, 409
        `request_in_progress` says that the same request still runs; both have Retry-After. The same requestId and
        body again answers what the request has become, with `Idempotent-Replayed: true`.
        """
        if not visibility.may_send(request.user):
            raise acting.forbidden("You may not change records; the role 'Record owners' or 'Operations' may.")
        body, mismatch = _with_key(request.data, request.headers.get(HEADER))
        try:
            performed = service.perform(
                body, actor=acting.actor_of(request), sees_all=rights.operates(request.user), extra_problems=mismatch
            )
        except TooManySteps:
            raise Problem(413, "too_many_updates", f"A request holds at most {MAX_STEPS} updates; split it.") from None
        except InvalidPlan as refused:
            raise invalid_body([FieldProblem(found.pointer, found.code, found.detail) for found in refused.problems]) \
                from None  # fmt: skip
        except accept.KeyReused:
            detail = "This requestId was used for another request; use a new one."
            errors = [FieldProblem("/requestId", "idempotency_key_reused", detail)]
            raise Problem(422, "idempotency_key_reused", detail, errors=errors) from None
        except accept.StillRunning:
            raise Problem(409, "request_in_progress", "The same request is being carried out.",
                          headers={"Retry-After": str(RUNNING_S)}) from None  # fmt: skip
        except holding.RecordBusy as refused:
            raise _busy(refused, body) from None
        except accept.RemoteUnavailable as refused:
            wait = str(_wait_s(db_now()))
            raise Problem(503, "remote_unavailable", str(refused), headers={"Retry-After": wait}) from None
        except (Misconfiguration, RemoteError) as refused:
            detail = f"A remote cannot be called: {refused.detail}"
            raise Problem(503, "remote_unavailable", detail, headers={"Retry-After": str(LONGEST_WAIT_S)}) from None
        if performed.request is None:
            groups = [{"groupId": group["groupId"], "updates": len(group["updates"])} for group in body["groups"]]
            return Response({"validateOnly": True, "valid": True, "groups": groups})
        shown = answers.render(performed.request)
        status = answers.http_status(group["status"] for group in shown["groups"])
        return Response(shown, status=status, headers=REPLAYED if performed.replayed else None)

    vars(create)["is_idempotent"] = True  # by requestId


def _with_key(body: Any, key: str | None) -> tuple[Any, list[Finding]]:
    """Return the body with the header's key as its requestId, and what is wrong between the two."""
    if key is None:
        return body, []
    if not _KEY.fullmatch(key):
        detail = f"{HEADER} must be 1 to {MAX_ID} visible ASCII characters here: it is the requestId."
        raise Problem(400, "idempotency_key_invalid", detail)
    if not isinstance(body, dict):
        return body, []
    if "requestId" not in body:
        return body | {"requestId": key}, []
    if body["requestId"] == key:
        return body, []
    detail = f"The {HEADER} header names another request; leave one of the two out."
    return body, [Finding("/requestId", "idempotency_key_mismatch", detail)]


def _busy(refused: holding.RecordBusy, body: Any) -> Problem:
    """Return the 409 that names every record in the way, where it stands in the request, and why."""
    by_id = {(busy.resource, busy.occurrence_id): busy for busy in refused.busy}
    errors = []
    for g, group in enumerate(body["groups"]):
        for u, update in enumerate(group["updates"]):
            slug = update.get("resource", group.get("resource", body.get("resource")))
            busy = by_id.get((slug, update["occurrenceId"]))
            if busy is not None:
                errors.append(FieldProblem(f"/groups/{g}/updates/{u}/occurrenceId", "record_busy", busy.reason))
    records = [
        {"record": busy.record_id, "resource": busy.resource, "occurrenceId": busy.occurrence_id,
         "status": busy.status, "reason": busy.reason}
        for busy in refused.busy
    ]  # fmt: skip
    listed = "; ".join(f"{busy.occurrence_id} ({busy.status}): {busy.reason}" for busy in refused.busy[:5])
    more = f" And {len(records) - 5} more." if len(records) > 5 else ""
    return Problem(409, "record_busy", f"Nothing was stored. {listed}{more}", errors=errors, records=records,
                   headers={"Retry-After": str(BUSY_S)})  # fmt: skip


def _wait_s(now: datetime) -> int:
    """Return after how many seconds another try makes sense: when the first block that ends by itself ends."""
    ends = [block.until for block in limits.blocked(now).values() if block.until is not None]
    wait = (min(ends) - now).total_seconds() if ends else UNAVAILABLE_S
    return max(1, min(LONGEST_WAIT_S, int(wait) + 1))


class CompensatingTaskViews(ApiViews):
    """The rows of the contract under `/compensating-tasks/`."""

    queryset = CompensatingTask.objects.none()
    serializer_class = TaskShape
    filterset_class = TaskFilters
    scopes: ClassVar = {"retry": acting.OPERATING}
    lookup_url_kwarg = "taskId"
    lookup_value_regex = "[0-9a-fA-F-]{36}"

    def get_queryset(self) -> QuerySet[CompensatingTask]:
        """Return the tasks that the caller may see."""
        return visibility.tasks_of(self.request.user)

    def get_object(self) -> CompensatingTask:
        """Return the task of the address; raises 404 outside of the caller's scope."""
        unknown = Problem(404, "not_found", "There is no such task, or you may not see it.")
        try:
            task_id = uuid.UUID(self.kwargs["taskId"])
        except ValueError:
            raise unknown from None
        task = self.get_queryset().filter(task_id=task_id).first()
        if task is None:
            raise unknown
        return task

    @extend_schema(summary="Compensating tasks, newest first")
    def list(self, request: Request) -> Response:
        """Return a page of tasks."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        slugs = _slugs()
        return self.get_paginated_response([answers.task_object(row, slugs=slugs) for row in page or ()])

    @extend_schema(summary="One compensating task", responses=TaskShape)
    def retrieve(self, request: Request, taskId: str) -> Response:
        """Return one task with its snapshot, what was applied, and what happens next."""
        return Response(answers.task_object(self.get_object(), slugs=_slugs()))

    @extend_schema(summary="Try again now", request=bodies.NoBody, responses=TaskShape)
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, taskId: str) -> Response:
        """Make a waiting or failed task due now, with all its attempts. Needs the scope `operate`.

        409 `not_retryable` says why a task cannot be tried again.
        """
        task = self.get_object()
        if not visibility.may_operate(request.user):
            raise acting.forbidden("Only operations may do this.")
        require_scope(request, Scope.OPERATE)
        bodies.read(bodies.NoBody, request)
        try:
            operate.retry_now(task.pk, actor=acting.actor_of(request), why="")
        except operate.NotPossible as refusal:
            raise Problem(409, "not_retryable", str(refusal)) from None
        return Response(answers.task_object(self.get_object(), slugs=_slugs()))


def _slugs() -> dict[int, str]:
    return dict(Resource.objects.values_list("pk", "slug"))
