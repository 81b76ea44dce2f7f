"""Sending one request of a resource: headers, signature, a token renewed once, and failures found in good answers.

Owns: `Sender` and `failed_after`. Guarantees: every request of a resource leaves through here and carries the remote's
headers and credential and is counted in `sent`; a request signed with a refused token is sent once more under a new one
(a 401 is a definite answer, so nothing is applied twice). Does not: build bodies or read answers.
"""

from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Any

from syncportal.remote import writing
from syncportal.remote.auth import Credentials
from syncportal.remote.client import Deadline, HttpClient, HttpRequest
from syncportal.remote.errors import Misconfiguration, Rejected, RemoteError, Unauthorized
from syncportal.remote.payloads import Answer
from syncportal.remote.signing import Draft
from syncportal.remote.spec import ResourceSpec

_CANONICAL_NAMES = {"accept": "Accept", "user-agent": "User-Agent", "content-type": "Content-Type"}


class Sender:
    """Sends requests for one resource."""

    def __init__(self, spec: ResourceSpec, *, http: HttpClient, credentials: Credentials) -> None:
        """Compile the headers that every request carries."""
        self.spec = spec
        self._http = http
        self._credentials = credentials
        media = spec.remote.content_type.partition(";")[0].strip()
        self._headers: dict[str, str] = {}
        if "json" in media and media != "application/json":
            self._headers["Accept"] = f"{media}, application/json;q=0.9, */*;q=0.5"
        for name, value in spec.remote.headers.items():
            self._headers[_CANONICAL_NAMES.get(name.lower(), name)] = value
        self.sent = 0
        self._counting = Lock()

    def write(
        self, method: str, url: str, *, headers: Mapping[str, str], body: Any, key: str, guarded: bool, purpose: str,
        deadline: Deadline, lenient: bool = False,
    ) -> Answer:  # fmt: skip
        """Send a write with its idempotency key; `body` None sends none. Raises a RemoteError."""
        sent = dict(headers)
        if key and self.spec.idempotency_header:
            sent[self.spec.idempotency_header] = key
        raw = None if body is None else writing.encoded(body, encoding=self.spec.update.encoding)
        return self.send(
            method, url, purpose=purpose, deadline=deadline, headers=sent, body=raw, is_write=True, guarded=guarded,
            lenient=lenient,
        )  # fmt: skip

    def send(
        self, method: str, url: str, *, purpose: str, deadline: Deadline, headers: Mapping[str, str] | None = None,
        body: bytes | None = None, is_write: bool = False, guarded: bool = False, lenient: bool = False,
    ) -> Answer:  # fmt: skip
        """Sign and send one request, within the remote's own time per call; raises a RemoteError."""
        deadline = deadline.at_most(self.spec.remote.limits.total_timeout_s)
        request = HttpRequest(
            method=method, url=url, purpose=purpose, body=body, is_write=is_write, rules=self.spec.rules,
            had_precondition=guarded, lenient=lenient,
            headers={**self._headers, **headers} if headers else self._headers,
        )  # fmt: skip
        signed, grant = self._signed(request)
        try:
            return self._counted(signed, deadline=deadline)
        except Unauthorized:
            if not self._credentials.renew(grant, http=self._http, deadline=deadline):
                raise
            self._http = self._http.with_secrets(*self._credentials.secrets)
            signed, _ = self._signed(request)
            return self._counted(signed, deadline=deadline)

    def _counted(self, request: HttpRequest, *, deadline: Deadline) -> Answer:
        with self._counting:
            self.sent += 1
        return self._http.send(request, deadline=deadline)

    def _signed(self, request: HttpRequest) -> tuple[HttpRequest, Any]:
        draft = Draft(request.method, request.url, dict(request.headers), request.body)
        try:
            grant = self._credentials.sign(draft)
        except Misconfiguration as problem:
            raise Rejected(problem.detail, code="hook_failed") from None
        return replace(request, url=draft.url, headers=draft.headers, body=draft.body), grant

    def without_credential(self, url: str) -> str:
        """Return `url` as it may be kept: without the query parameters that carry the credential."""
        return self._credentials.stripped(url)


def failed_after(
    answer: Answer, kind: type[RemoteError], detail: str, *, code: str, maybe_applied: bool = False
) -> RemoteError:
    """Return the error for an answer whose status was good and whose content is not."""
    exchange = replace(answer.exchange, error=kind.kind.value, error_detail=detail)
    return kind(detail, code=code, status=answer.status, maybe_applied=maybe_applied, exchange=exchange, answer=answer)
