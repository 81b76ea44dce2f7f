"""What `/api/` answers to a request that meets no fault; usable without any transport.

Owns: routing, credentials, reading bodies, and the answer's shape as the collection's options say.
Guarantees: a check and its write are one step; a request is never half applied; malformed input is a 4xx.
Does not: know faults, except the way in which a list is paged wrongly.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

from syncportal.demo.messages import Answer, Call
from syncportal.demo.paging import BadPage, Twist, cut, shuffled
from syncportal.demo.preconditions import checker, expectation
from syncportal.demo.schema import coerced
from syncportal.demo.spec import Collection, Document
from syncportal.demo.store import Origin, Refused, Store, Write
from syncportal.demo.versions import Held, checksum_of, join_id, shown

PREFIX = "/api/"
_PHASES = {"GET": "detail", "HEAD": "detail", "PUT": "update", "PATCH": "update", "POST": "update", "DELETE": "delete"}


class Api:
    """Answers calls from a store. `credential` is `user:password` (basic) or `bearer:token`; empty asks for none."""

    def __init__(self, store: Store, *, credential: str = "", host: str = "") -> None:
        self.store = store
        self.host = host
        self._replays: dict[tuple[str, str], tuple[str, Answer]] = {}
        self._turn = 0
        self._expected = ""
        if credential.startswith("bearer:"):
            self._expected = "Bearer " + credential.removeprefix("bearer:")
        elif credential:
            self._expected = "Basic " + base64.b64encode(credential.encode()).decode()

    def forget(self) -> None:
        """Drop the stored idempotent answers."""
        self._replays.clear()

    def route(self, call: Call) -> None:
        """Fill in collection, object id and phase from the path; leave them empty where nothing fits."""
        if not call.path.startswith(PREFIX):
            return
        name, *rest = call.path.removeprefix(PREFIX).removesuffix("/").split("/")
        spec = self.store.spec(unquote(name))
        if spec is None:
            return
        call.collection = spec.name
        if not rest:
            call.phase = "create" if call.method == "POST" else "list"
        elif len(rest) == len(spec.id_fields):
            call.object_id = join_id([unquote(part) for part in rest])
            call.phase = _PHASES.get(call.method, "detail")
        else:
            call.collection = ""

    def handle(self, call: Call, *, twist: Twist | None = None) -> Answer:
        """Answer a routed call; writes are applied."""
        spec = self.store.spec(call.collection) if call.collection else None
        try:
            if self._expected and call.headers.get("authorization", "") != self._expected:
                raise Refused(401, "unauthorized", "A valid credential is needed.")
            if spec is None:
                raise Refused(404, "not_found", "There is nothing at this address.")
            if call.phase == "list":
                return self._list(call, spec, twist)
            if call.phase == "detail":
                return self._detail(call, spec)
            with self.store.lock:
                return self._write(call, spec)
        except Refused as refused:
            return refusal(refused, spec=spec)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _list(self, call: Call, spec: Collection, twist: Twist | None) -> Answer:
        if call.method not in ("GET", "HEAD"):
            raise _not_allowed("GET, POST")
        with self.store.lock:
            ids = self._filtered(call, spec)
            if spec.order == "unstable":
                self._turn += 1
                ids = shuffled(ids, turn=self._turn)
            try:
                page = cut(
                    ids,
                    spec=spec,
                    query=call.query,
                    rank=lambda object_id: self.store.rank(spec.name, object_id),
                    path=call.path,
                    host=self.host,
                    twist=twist,
                )
            except BadPage as bad:
                raise Refused(400, "bad_page", str(bad)) from None
            rows = [self._row(spec, object_id) for object_id in page.ids]
        document = rows if page.around is None else {spec.items_key: rows, **page.around}
        return Answer(200, document, "list", page.headers, spec.media_type)

    def _filtered(self, call: Call, spec: Collection) -> list[str]:
        ids = self.store.listed(spec.name)
        wanted = {name: call.query[name] for name in spec.lookup if name in call.query}
        since = call.query.get("updated_since", "")
        if spec.window is not None:
            ids = self._within(call, spec, ids, *spec.window)
        if not wanted and not since:
            return ids
        found = []
        for object_id in ids:
            document = self._held(spec, object_id).document
            fits = all(str(document.get(name)) == value for name, value in wanted.items())
            if fits and document.get("updated_at", "") >= since:
                found.append(object_id)
        return found

    def _within(self, call: Call, spec: Collection, ids: list[str], field: str, first: str, last: str) -> list[str]:
        if first not in call.query or last not in call.query:
            raise Refused(400, "window", f"The list wants {first} and {last}, dates.")
        days = {object_id: str(self._held(spec, object_id).document[field])[:10] for object_id in ids}
        return [object_id for object_id in ids if call.query[first] <= days[object_id] <= call.query[last]]

    def _row(self, spec: Collection, object_id: str) -> Document:
        held = self._held(spec, object_id)
        row = {name: held.document[name] for name in spec.id_fields} if spec.stub_rows else shown(held, spec=spec)
        return {spec.row_key: row} if spec.row_key else row

    def _held(self, spec: Collection, object_id: str) -> Held:
        held = self.store.held(spec.name, object_id)
        if held is None:
            raise self.store.missing(spec.name, object_id)
        return held

    def _detail(self, call: Call, spec: Collection) -> Answer:
        if call.method not in ("GET", "HEAD"):
            raise _not_allowed(", ".join(("GET", *spec.methods, "DELETE")))
        return object_answer(self._held(spec, call.object_id), spec=spec)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _write(self, call: Call, spec: Collection) -> Answer:
        key = call.headers.get(spec.idempotency_header.lower(), "") if spec.idempotency_header else ""
        print_of = f"{call.method} {call.path} {call.body!r}"
        if key and (spec.name, key) in self._replays:
            known, stored = self._replays[(spec.name, key)]
            if known != print_of:
                raise Refused(422, "idempotency_key_reused", "This key was used for another request.")
            return replace(stored, headers={**stored.headers, "Idempotent-Replayed": "true"}, write=None)
        answer = self._apply(call, spec, key)
        if key:
            self._replays[(spec.name, key)] = (print_of, answer)
        return answer

    def _apply(self, call: Call, spec: Collection, key: str) -> Answer:
        body = {} if call.phase == "delete" and not call.body else read_body(call, spec=spec)
        by = Origin(
            method=call.method,
            actor="client",
            idempotency_key=key,
            if_match=expectation(call, spec=spec, body=body),
            request_id=call.request_id,
        )
        check = checker(call, spec=spec, body=body)
        if call.phase == "delete":
            return Answer(204, write=self.store.delete(spec.name, call.object_id, by=by, check=check))
        if call.phase == "create":
            return self._create(call, spec, body, by)
        semantics = spec.methods.get(call.method)
        if semantics is None:
            raise _not_allowed(", ".join(("GET", *spec.methods, "DELETE")))
        held = self.store.held(spec.name, call.object_id)
        if held is None or held.buried:
            named = call.headers.get("if-none-match", "").strip() == "*" and spec.create in ("client", "both")
            if semantics == "replace" and (named or (spec.upsert and not by.if_match)):
                made = {**_own(body, spec), **_id_parts(call, spec)}
                return self._answered(spec, self.store.create(spec.name, made, by=by, check=check), 201)
            raise self.store.missing(spec.name, call.object_id)
        write = self.store.update(spec.name, call.object_id, _own(body, spec), semantics=semantics, by=by, check=check)
        return self._answered(spec, write, 200)

    def _create(self, call: Call, spec: Collection, body: Document, by: Origin) -> Answer:
        if spec.create == "no":
            raise _not_allowed("GET")
        made = _own(body, spec)
        if spec.create == "server":
            made.pop(spec.id_fields[-1], None)
        if spec.create == "client" and any(made.get(name) is None for name in spec.id_fields):
            raise Refused(422, "invalid", "The id is missing.", errors=[(spec.id_fields[-1], "is required")])
        return self._answered(spec, self.store.create(spec.name, made, by=by), 201)

    def _answered(self, spec: Collection, write: Write, status: int) -> Answer:
        held = self._held(spec, write.object_id)
        answer = object_answer(held, spec=spec)
        answer.write, answer.status = write, status
        if status == 201:
            parts = [quote(str(held.document[name]), safe="") for name in spec.id_fields]
            answer.headers["Location"] = f"{PREFIX}{spec.name}/{'/'.join(parts)}"
        if spec.write_answer == "empty":
            answer.document, answer.shape = None, "none"
            answer.status = 204 if status == 200 else status
        elif spec.write_answer == "stub":
            answer.document, answer.shape = {name: held.document[name] for name in spec.id_fields}, "stub"
        return answer


def object_answer(held: Held, *, spec: Collection) -> Answer:
    """Make the 200 answer that shows one object, wrapped and with its headers as the collection says."""
    document = shown(held, spec=spec)
    headers = {"ETag": held.etag} if held.etag else {}
    if spec.checksum_fields and spec.checksum_in == "header":
        headers["X-Checksum"] = checksum_of(held.document, fields=spec.checksum_fields)
    return Answer(200, {spec.wrap: document} if spec.wrap else document, "object", headers, spec.media_type)


def refusal(refused: Refused, *, spec: Collection | None) -> Answer:
    """Make the answer of a refusal in the collection's way of telling errors."""
    headers = {"WWW-Authenticate": 'Basic realm="demo"'} if refused.status == 401 else {}
    if refused.status == 405:
        headers["Allow"] = refused.detail.rpartition(": ")[2]
    fields = [{"field": name, "detail": wrong} for name, wrong in refused.errors]
    style = spec.error_body if spec else "json"
    if style == "xml":
        text = (
            f'<?xml version="1.0"?><error><code>{refused.code}</code><detail>{escape(refused.detail)}</detail></error>'
        )
        return Answer(refused.status, None, "error", headers, "application/xml", raw=text.encode())
    if style == "text":
        return Answer(refused.status, None, "error", headers, "text/plain", raw=refused.detail.encode())
    if style == "empty":
        return Answer(refused.status, None, "error", headers, raw=b"")
    document = {"error": {"code": refused.code, "detail": refused.detail, "fields": fields}}
    return Answer(refused.status, document, "error", headers)


def read_body(call: Call, *, spec: Collection) -> Document:
    """Read a write's body by the collection's encoding and take it out of its wrap. Raises Refused (400, 422)."""
    try:
        if spec.encoding == "form":
            rules = spec.schema.get("properties", {})
            pairs = parse_qsl(call.body.decode(), keep_blank_values=True, strict_parsing=bool(call.body))
            return {name: coerced(text, rule=rules.get(name, {})) for name, text in pairs}
        document = json.loads(call.body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "unreadable", "The body cannot be read.") from None
    if spec.wrap:
        document = document.get(spec.wrap) if isinstance(document, dict) else None
    if not isinstance(document, dict):
        raise Refused(422, "invalid", f"The body must be an object{f' under {spec.wrap!r}' if spec.wrap else ''}.")
    if spec.refuse_read_only:
        wrong = [(name, "is read-only") for name in sorted(spec.read_only & document.keys())]
        if wrong and spec.precondition != "body":
            raise Refused(422, "read_only", "Some fields cannot be written.", errors=wrong)
    return document


def _own(body: Mapping[str, Any], spec: Collection) -> Document:
    """Drop a version that only served as the precondition."""
    if spec.precondition == "body" and spec.precondition_param not in spec.schema.get("properties", {}):
        return {name: value for name, value in body.items() if name != spec.precondition_param}
    return dict(body)


def _id_parts(call: Call, spec: Collection) -> Document:
    rest = call.path.removeprefix(PREFIX).removesuffix("/").split("/")[1:]
    return dict(zip(spec.id_fields, (unquote(part) for part in rest), strict=True))


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _not_allowed(methods: str) -> Refused:
    return Refused(405, "method_not_allowed", f"Allowed here: {methods}")
