"""Who acts on which record, and how the core's refusals are answered."""

import re
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError
from rest_framework.request import Request

from syncportal.access.keys import Scope
from syncportal.access.models import ApiKey
from syncportal.access.permissions import require_scope
from syncportal.access.problems import FieldProblem, Problem, invalid_body
from syncportal.kernel import pointer
from syncportal.sync import rights
from syncportal.sync.events import Actor
from syncportal.sync.local import InvalidEdit, RecordGone, StaleRevision
from syncportal.sync.models import Record
from syncportal.sync.validation import Problem as Finding

OPERATING: Final = (Scope.WRITE, Scope.OPERATE)  # enough to reach the act; others' records need the second
_TAG = re.compile(r'\s*(W/)?"?([0-9]{1,18})"?\s*', re.ASCII)


def actor_of(request: Request) -> Actor:
    """Return who answers for what the request does."""
    if isinstance(request.auth, ApiKey):
        return Actor("api_key", request.user.pk, f"{request.user.get_username()} ({request.auth.name})")
    return Actor("user", request.user.pk, request.user.get_username())


def forbidden(detail: str) -> Problem:
    """Return the 403 for something visible that the caller may not change."""
    return Problem(403, "permission_denied", detail)


def require_operating(request: Request, record: Record) -> None:
    """Let owners act on their own records, and operators with the scope for it on all; else raise 403."""
    if not rights.may_operate(request.user, record):
        raise forbidden("Only the record's owner and operations may do this.")
    if record.owner_id != request.user.pk:
        require_scope(request, Scope.OPERATE)


def owner_id_of(request: Request, name: str | None) -> int | None:
    """Return the id of a user to whom a record is given; only operators may do so."""
    if not rights.operates(request.user):
        raise forbidden("Only operations may set the owner of a record.")
    require_scope(request, Scope.OPERATE)
    if name is None:
        return None
    found = get_user_model().objects.filter(username=name, is_active=True).values_list("pk", flat=True).first()
    if found is None:
        raise invalid_body([FieldProblem("/owner", "does_not_exist", "There is no active user of this name.")])
    return found


def expected_revision(request: Request, record: Record) -> int | None:
    """Return the revision that If-Match insists on, None without; raises 412 when it cannot match any more."""
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return None
    tags = [_TAG.fullmatch(part) for part in header.split(",")]
    wanted = {int(tag[2]) for tag in tags if tag and not tag[1]}
    if record.revision not in wanted:
        raise revision_moved(record.revision)
    return record.revision


def revision_moved(current: int) -> Problem:
    """Return the 412 that names the revision to look at."""
    detail = f"The record stands at revision {current}; look at it and decide again."
    return Problem(412, "revision_moved", detail, headers={"ETag": f'"{current}"'}, revision=current)


def findings(found: Iterable[Finding], *, at: str) -> list[FieldProblem]:
    """Return problems of the data as problems of the request whose `at` holds it."""
    return [FieldProblem(at + problem.pointer, problem.code, problem.detail) for problem in found]


@contextmanager
def refusals_answered() -> Any:
    """Turn what the core refuses into problem documents."""
    try:
        yield
    except InvalidEdit as refusal:
        raise invalid_body(findings(refusal.problems, at="/data")) from None
    except StaleRevision as refusal:
        raise revision_moved(refusal.current) from None
    except RecordGone:
        raise Problem(410, "record_gone", "The record was deleted on both sides.") from None
    except IntegrityError:
        detail = "Another request made a record with this id at the same moment."
        raise invalid_body([FieldProblem("/data", "duplicate", detail)]) from None


def field_pointer(name: str, at: str) -> str:
    """Return the pointer to a member of the request's object `name` whose key is itself a pointer."""
    return pointer.build((name, at))
