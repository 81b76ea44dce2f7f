"""`Idempotency-Key`: the same key and body have one effect and one answer. The only writer of StoredAnswer.

Guarantees, for any number of callers at once: one effect; the stored answer for later ones; 422 when the key comes with
another body, 409 while the first is running. By default the answer is stored in the transaction of the effect, so a
crash between the two is impossible; a holder that died stops blocking after `HELD_FOR`, and if it wakes up after
somebody took over, its transaction is rolled back. A refused request (4xx, 5xx) is not stored.
Does not: prune by itself; a duty calls `prune`.
"""

import functools
import hashlib
import json
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from syncportal.access.models import StoredAnswer
from syncportal.access.problems import Problem
from syncportal.kernel import strict_json
from syncportal.kernel.clock import db_now
from syncportal.kernel.tx import atomic_retry

HEADER: Final = "Idempotency-Key"
HELD_FOR: Final = timedelta(seconds=60)
KEPT_FOR: Final = timedelta(days=7)
_SHAPE: Final = re.compile(r"[\x21-\x7e]{1,255}")
_KEPT_HEADERS: Final = ("Location", "ETag")

Handler = Callable[..., Response]


def idempotent(handler: Handler | None = None, *, in_transaction: bool = True) -> Any:
    """Honour the Idempotency-Key header on a view method that answers a POST.

    in_transaction False: the method talks to a remote, so its answer is stored afterwards; use it only where doing it
    twice does no harm.
    """

    def wrap(inner: Handler) -> Handler:
        @functools.wraps(inner)
        def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            def work() -> Response:
                return inner(view, request, *args, **kwargs)

            key = request.headers.get(HEADER)
            return work() if key is None else _once(request, key, work, in_transaction=in_transaction)

        answer.is_idempotent = True  # type: ignore[attr-defined]
        return answer

    return wrap if handler is None else wrap(handler)


def prune(*, now: datetime, limit: int = 1000) -> int:
    """Forget answers older than `KEPT_FOR`, a slice at a time, and return how many."""
    old = StoredAnswer.objects.filter(created_at__lt=now - KEPT_FOR).order_by("created_at")
    return StoredAnswer.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:limit])).delete()[0]


def _once(request: Request, key: str, work: Callable[[], Response], *, in_transaction: bool) -> Response:
    if not _SHAPE.fullmatch(key):
        raise Problem(400, "idempotency_key_invalid", f"{HEADER} must be 1 to 255 visible ASCII characters.")
    holder = secrets.token_hex(16)
    found = atomic_retry(lambda: _take(request, key, holder=holder, now=db_now()))
    if found.holder != holder:
        return _replay(found)

    def work_and_keep() -> Response:
        response = work()
        _keep(found.pk, response, holder=holder)
        return response

    try:
        return atomic_retry(work_and_keep) if in_transaction else work_and_keep()
    except BaseException:
        StoredAnswer.objects.filter(pk=found.pk, holder=holder, status__isnull=True).delete()
        raise


def _take(request: Request, key: str, *, holder: str, now: datetime) -> StoredAnswer:
    """Return the key's row: held by us, or answered by somebody else; raises while somebody else runs."""
    fingerprint, user_id = _fingerprint(request), request.user.pk or 0
    mine = StoredAnswer(
        user_id=user_id,
        key=key,
        fingerprint=fingerprint,
        holder=holder,
        held_until=now + HELD_FOR,
        created_at=now,
    )
    StoredAnswer.objects.bulk_create([mine], ignore_conflicts=True)
    row = StoredAnswer.objects.select_for_update().get(user_id=user_id, key=key)
    if row.holder == holder:
        return row
    if row.fingerprint != fingerprint:
        raise Problem(422, "idempotency_key_reused", "This Idempotency-Key was used with another request.")
    if row.status is not None:
        return row
    if row.held_until > now:
        wait = max(1, min(5, int((row.held_until - now).total_seconds())))
        raise Problem(409, "request_in_progress", "The request with this Idempotency-Key is still running.",
                      headers={"Retry-After": str(wait)})  # fmt: skip
    StoredAnswer.objects.filter(pk=row.pk).update(holder=holder, held_until=now + HELD_FOR)
    row.holder = holder
    return row


def _keep(row_id: int, response: Response, *, holder: str) -> None:
    """Store the answer if the row is still ours; else somebody took over and this effect must not be kept."""
    kept = StoredAnswer.objects.filter(pk=row_id, holder=holder, status__isnull=True).update(
        status=response.status_code,
        headers={name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers},
        body=JSONRenderer().render(response.data).decode(),
    )
    if not kept:
        raise Problem(409, "request_in_progress", "Another request with this Idempotency-Key took over.",
                      headers={"Retry-After": "1"})  # fmt: skip


def _replay(row: StoredAnswer) -> Response:
    headers = {**row.headers, "Idempotent-Replayed": "true"}
    return Response(json.loads(row.body) if row.body else None, status=row.status, headers=headers)


def _fingerprint(request: Request) -> str:
    body = strict_json.dumps_canonical(request.data)
    return hashlib.sha256(f"{request.method} {request.path}\n{body}".encode()).hexdigest()
