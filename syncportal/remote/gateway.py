"""The one way to a resource: read, create, update, delete, look up, list, check.

Owns: `ResourceClient` and `client_for`. Guarantees: an error is always one of errors.py with its exchange; a write
carries the configured precondition or is not sent; a refused token is renewed once; thread-safe; no database access.
Does not: retry, count, pace or decide what an answer means for a record.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from syncportal.kernel import pointer as pointers
from syncportal.remote import formats, writing
from syncportal.remote.auth import Credentials, prepare
from syncportal.remote.client import Deadline, HttpClient
from syncportal.remote.errors import Conflict, InvalidResponse, Missing, Rejected
from syncportal.remote.listing import ListReader
from syncportal.remote.models import Resource
from syncportal.remote.payloads import (
    EMPTY,
    Answer,
    Exchange,
    Page,
    ReadResult,
    RemoteObject,
    WriteResult,
)
from syncportal.remote.pools import http_for
from syncportal.remote.sending import Sender, failed_after
from syncportal.remote.spec import LONGEST_ID, ResourceSpec, spec_for
from syncportal.remote.urls import BadId, PathTemplate, joined
from syncportal.remote.versions import canonical


def client_for(resource: Resource) -> "ResourceClient":
    """Return a client for `resource` with its credential; raises Misconfiguration, or a RemoteError of a token call.

    Reads the database and may fetch a token: never call it inside a transaction.
    """
    return ResourceClient(spec_for(resource), credentials=prepare(resource.remote))


class ResourceClient:
    """Speaks to one resource of one remote as its spec says."""

    def __init__(
        self, spec: ResourceSpec, *, http: HttpClient | None = None, credentials: Credentials | None = None
    ) -> None:
        """Compile what every call needs; without `credentials` nothing is signed."""
        self.spec = spec
        self.credentials = credentials or Credentials(spec=spec.remote)
        remote = spec.remote
        names = set(self.credentials.query_names)
        if remote.auth.name:
            names.add(remote.auth.name)
        self._http = http or http_for(remote, secrets=self.credentials.secrets, secret_names=names)
        self._sender = Sender(spec, http=self._http, credentials=self.credentials)
        self._list = ListReader(spec, sender=self._sender, read_row=self._read_row)
        self._detail = PathTemplate(spec.detail.path)
        self._update = PathTemplate(spec.update.path)
        self._delete = PathTemplate(spec.delete.path)
        self._create = PathTemplate(spec.create.path)
        form = spec.update.encoding == "form"
        self._write_headers = {"Content-Type": writing.FORM_TYPE if form else remote.content_type}

    @property
    def sent(self) -> int:
        """Return how many requests this client sent, for whoever pays for them."""
        return self._sender.sent

    # --- reading -------------------------------------------------------------------------------------------------

    def read(self, external_id: str, *, purpose: str = "read", deadline: Deadline) -> ReadResult:
        """Read one object; raises Missing for a gone status, an empty answer, and a tombstone."""
        url = self._url(self._detail, external_id)
        answer = self._sender.send("GET", url, purpose=purpose, deadline=deadline)
        data = self._object_in(answer)
        found = self._remote_object(data, answer=answer)
        if found.tombstone:
            raise failed_after(answer, Missing, "The object says of itself that it is deleted.", code="tombstone")
        return ReadResult(found, answer)

    def list_page(self, cursor: str | None, *, deadline: Deadline, since: datetime | None = None) -> Page:
        """Read one page of the list, the first for a cursor of None; `since` asks for newer changes where possible."""
        return self._list.page(cursor, deadline=deadline, since=since)

    def lookup(self, data: Mapping[str, Any], *, deadline: Deadline) -> tuple[list[RemoteObject], Exchange]:
        """Find objects that share the natural key of `data`; raises Rejected when the resource has no look-up."""
        return self._list.lookup(data, deadline=deadline)

    def check(self, *, deadline: Deadline, purpose: str = "check") -> Exchange:
        """Make the known-good GET: the first list page, or the base URL; raises a RemoteError."""
        if self.spec.listing is not None:
            return self._list.first(deadline=deadline, purpose=purpose).exchange
        return self._sender.send(
            "GET", joined(self.spec.remote.base_url, ""), purpose=purpose, deadline=deadline, lenient=True
        ).exchange

    # --- writing -------------------------------------------------------------------------------------------------

    def create(
        self, data: Mapping[str, Any], *, external_id: str | None = None, idempotency_key: str = "",
        deadline: Deadline, purpose: str = "write",
    ) -> WriteResult:  # fmt: skip
        """Create an object from `data`; with a client-chosen id it never overwrites where the remote can refuse it."""
        spec = self.spec
        own_id = external_id if spec.create.id == "client" else None
        url = joined(spec.remote.base_url, self._filled(self._create, own_id or external_id))
        headers = dict(self._write_headers)
        guarded = own_id is not None and spec.precondition.send == "if_match"
        if guarded:
            headers["If-None-Match"] = "*"
        try:
            created = writing.object_to_create(spec, data, external_id=own_id)
        except ValueError as problem:
            raise Rejected(str(problem), code="bad_id") from None
        body = writing.create_payload(spec, created, external_id=own_id)
        return self._write(
            spec.create.method, url, headers=headers, body=body, external_id=own_id, key=idempotency_key,
            guarded=guarded, purpose=purpose, deadline=deadline, sent=data,
        )  # fmt: skip

    def update(
        self, external_id: str, *, data: Mapping[str, Any], base: Mapping[str, Any], expected_version: str | None,
        idempotency_key: str = "", deadline: Deadline, purpose: str = "write",
    ) -> WriteResult:  # fmt: skip
        """Write `data` over `base`, under the precondition of `expected_version` where one is configured.

        Raises Conflict with code `version_unknown`, before anything is sent, when the precondition has no version.
        """
        spec = self.spec
        guarded = self._needs_version(expected_version)
        if spec.update.semantics == "merge":
            changed = writing.object_to_merge(spec, data, base=base)
        else:
            changed = writing.object_to_replace(spec, data)
        version_at, version = "", None
        if guarded and spec.precondition.send == "body":
            version_at, version = spec.precondition.pointer, self._typed_version(expected_version, base=base)
        body = writing.payload(
            spec, changed, external_id=external_id, known=base, version_at=version_at, version=version
        )
        url, headers = self._url(self._update, external_id), dict(self._write_headers)
        if guarded:
            url = self._guard(url, headers, version=expected_version, send=spec.precondition.send)
        return self._write(
            spec.update.method, url, headers=headers, body=body, external_id=external_id, key=idempotency_key,
            guarded=guarded, purpose=purpose, deadline=deadline, sent=data,
        )  # fmt: skip

    def delete(
        self, external_id: str, *, expected_version: str | None, base: Mapping[str, Any] | None = None,
        idempotency_key: str = "", deadline: Deadline, purpose: str = "write",
    ) -> WriteResult:  # fmt: skip
        """Delete an object under the precondition configured for deletes; a gone status raises Missing."""
        spec, rule = self.spec, self.spec.precondition
        guarded = rule.on_delete != "none" and self._needs_version(expected_version)
        url = self._url(self._delete, external_id)
        headers: dict[str, str] = {}
        parts = writing.typed_parts(spec, self._parts(external_id), known=base or {})
        body = writing.filled(spec.delete.body, parts=parts, version=expected_version)
        if guarded and rule.on_delete != "same":
            url = joined("", url, {rule.on_delete: expected_version})
        elif guarded and rule.send == "body":
            version = self._typed_version(expected_version, base=base or {})
            body = pointers.put(body or {}, rule.pointer, version)
        elif guarded:
            url = self._guard(url, headers, version=expected_version, send=rule.send)
        if body is not None:
            headers.update(self._write_headers)
        answer = self._sender.write(
            spec.delete.method, url, headers=headers, body=body, key=idempotency_key, guarded=guarded,
            purpose=purpose, deadline=deadline, lenient=True,
        )  # fmt: skip
        return WriteResult(None, None, answer)

    def _write(
        self, method: str, url: str, *, headers: dict[str, str], body: Any, external_id: str | None, key: str,
        guarded: bool, purpose: str, deadline: Deadline, sent: Mapping[str, Any],
    ) -> WriteResult:  # fmt: skip
        answer = self._sender.write(
            method, url, headers=headers, body=body, key=key, guarded=guarded, purpose=purpose, deadline=deadline
        )
        shown = writing.shown_object(self.spec, answer.body, external_id=external_id)
        named = self._named(answer) if shown is None else self.spec.external_id_of(shown)
        if shown is None or not writing.is_whole(self.spec, shown, sent=sent):
            return WriteResult(None, self._etag(answer), answer, named)
        found = self._remote_object(shown, answer=answer)
        return WriteResult(found, found.version, answer, named)

    def _named(self, answer: Answer) -> str | None:
        """Return the id in the answer's Location, None without one of this resource."""
        location = answer.headers.get("Location")
        if not location or answer.status != 201:
            return None
        parts = self._detail.parts_of(urlsplit(location).path)
        if parts is None or len(parts) != len(self.spec.id_pointers):
            return None
        found = self.spec.join_id([parts[index] for index in sorted(parts)])
        return found if len(found) <= LONGEST_ID else None

    def _needs_version(self, version: str | None) -> bool:
        """Say whether a precondition goes out; without a version nothing may, unless the probe found it ignored."""
        if self.spec.precondition.send == "none":
            return False
        if version is None and (self.spec.conditional or self.spec.precondition.required):
            raise Conflict(
                "The version of the object is not known, so it is read before it is written.", code="version_unknown"
            )
        return version is not None

    def _guard(self, url: str, headers: dict[str, str], *, version: str | None, send: str) -> str:
        rule, text = self.spec.precondition, version or ""
        if send == "if_match":
            is_quoted = text.startswith(('"', 'W/"'))
            headers["If-Match"] = text if is_quoted and rule.format == '"{}"' else rule.format.replace("{}", text)
        elif send == "if_unmodified_since":
            if rule.format in ("", "http_date"):
                headers["If-Unmodified-Since"] = formats.http_date(text)
            else:
                headers["If-Unmodified-Since"] = (
                    text if rule.format == "{}" else str(formats.written(text, rule.format))
                )
        elif send == "query":
            return joined("", url, {rule.param: text})
        return url

    def _typed_version(self, version: str | None, *, base: Mapping[str, Any]) -> Any:
        at = self.spec.version.pointer
        like = pointers.get(base, at, None) if at else ""
        return writing.typed_version(version or "", like=like, declared=self.spec.comparator.type_of(at))

    # --- answers -------------------------------------------------------------------------------------------------

    def _object_in(self, answer: Answer) -> dict[str, Any]:
        at = self.spec.detail.item
        found = pointers.get(answer.body, at, None) if answer.body is not EMPTY else None
        if isinstance(found, list) and len(found) <= 1:
            found = found[0] if found else None
        if isinstance(found, dict):
            return found
        parent = pointers.get(answer.body, at.rpartition("/")[0], None) if at else answer.body
        has_place = pointers.get(answer.body, at) is not pointers.MISSING
        if answer.body is not EMPTY and found is None and (has_place or parent == []):
            raise failed_after(answer, Missing, "The answer holds no object.", code="empty_answer")
        raise failed_after(
            answer, InvalidResponse, f"The answer has no object at {at or 'its top'} (detail.item).", code="no_object"
        )

    def _remote_object(self, data: dict[str, Any], *, answer: Answer | None) -> RemoteObject:
        spec = self.spec
        if spec.version.source == "body":
            version = canonical(pointers.get(data, spec.version.pointer, None))
        else:
            version = self._etag(answer) if answer is not None else None
        return RemoteObject(spec.external_id_of(data), data, version, bool(spec.tombstone) and spec.is_tombstone(data))

    def _etag(self, answer: Answer) -> str | None:
        return canonical(answer.headers.get("ETag")) if self.spec.version.source == "etag" else None

    def _read_row(self, data: dict[str, Any], external_id: str, deadline: Deadline | None) -> RemoteObject:
        """Return a list's row as an object; with a deadline the row is a stub, and its object is read."""
        if deadline is None:
            return self._remote_object(data, answer=None)
        answer = self._sender.send("GET", self._url(self._detail, external_id), purpose="list", deadline=deadline)
        return self._remote_object(self._object_in(answer), answer=answer)

    # --- addresses -----------------------------------------------------------------------------------------------

    def _parts(self, external_id: str) -> tuple[str, ...]:
        try:
            return self.spec.id_parts(external_id)
        except ValueError as problem:
            raise Rejected(str(problem), code="bad_id") from None

    def _url(self, template: PathTemplate, external_id: str) -> str:
        return joined(self.spec.remote.base_url, self._filled(template, external_id))

    def _filled(self, template: PathTemplate, external_id: str | None) -> str:
        parts = self._parts(external_id) if external_id is not None and template.places else ()
        try:
            return template.fill(parts)
        except BadId as problem:
            raise Rejected(f"{problem}.", code="bad_id") from None
        except IndexError:
            raise Rejected("The path needs an id, and there is none yet.", code="bad_id") from None
