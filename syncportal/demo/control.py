"""The control API under `/_demo/`: faults, logs, contents and outside edits, as JSON and as the switchboard's forms.

Owns: those routes. Guarantees: only requests addressed to the loopback host and not sent by a foreign web page are
served, so a page in the same browser cannot switch anything; GET changes nothing.
Does not: need the API's credential; it is as open as the machine it runs on.
"""

import dataclasses
import json
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl, quote, urlsplit

from syncportal.demo.faults import FaultBook
from syncportal.demo.kinds import FaultError
from syncportal.demo.messages import Answer, Call, Heard
from syncportal.demo.schema import coerced
from syncportal.demo.spec import accounts, collections_from, shifts
from syncportal.demo.store import Refused, Store
from syncportal.demo.switchboard import CSP, STYLE, Board, page

PREFIX = "/_demo/"
_LOCAL = ("127.0.0.1", "localhost", "::1")
_SHOWN = 12


class RequestLog(Protocol):
    """Where the request log is read and emptied, and the general latency is set."""

    latency_s: float

    def heard_after(self, number: int) -> list[Heard]:
        """Return the requests with a higher number."""
        ...

    def forget(self) -> None:
        """Empty the log."""
        ...


class Control:
    """Answers the calls under `/_demo/`."""

    def __init__(self, store: Store, faults: FaultBook, log: RequestLog) -> None:
        self._store = store
        self._faults = faults
        self._log = log
        self._routes: dict[tuple[str, str], Callable[[Call], Answer]] = {
            ("GET", ""): self._page,
            ("GET", "style.css"): self._style,
            ("POST", "switch"): self._form_switch,
            ("POST", "change"): self._form_change,
            ("GET", "faults"): self._list_faults,
            ("POST", "faults"): self._add_fault,
            ("DELETE", "faults"): self._clear_faults,
            ("GET", "log"): self._writes,
            ("GET", "requests"): self._requests,
            ("GET", "state"): self._state,
            ("POST", "reset"): self._reset,
            ("POST", "edit"): self._edit,
            ("POST", "create"): self._create,
            ("POST", "delete"): self._delete,
        }

    def handle(self, call: Call) -> Answer:
        """Answer one call; every mistake is a 4xx with one sentence."""
        if not _from_here(call):
            return _problem(403, "The switchboard only answers this machine's own pages and tools.")
        name = call.path.removeprefix("/_demo").strip("/")
        if name.startswith("faults/") and call.method == "DELETE":
            return _json({"removed": self._faults.remove(name.removeprefix("faults/"))})
        route = self._routes.get((call.method, name))
        if route is None:
            known = any(path == name for _, path in self._routes)
            return _problem(405 if known else 404, "There is nothing of that kind at this address.")
        try:
            return route(call)
        except (FaultError, ValueError, KeyError, TypeError) as error:
            return _problem(400, f"Missing: {error.args[0]}" if isinstance(error, KeyError) else str(error))
        except Refused as refused:
            return _problem(refused.status, "; ".join((refused.detail, *(f"{n} {w}" for n, w in refused.errors))))

    # ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def _list_faults(self, call: Call) -> Answer:
        return _json({"faults": [rule.as_json() for rule in self._faults.rules()]})

    def _add_fault(self, call: Call) -> Answer:
        return _json(self._faults.add_json(_body(call)).as_json(), status=201)

    def _clear_faults(self, call: Call) -> Answer:
        return _json({"removed": self._faults.clear()})

    def _writes(self, call: Call) -> Answer:
        writes = self._store.writes(after=int(call.query.get("after", 0)))
        last = writes[-1].seq if writes else int(call.query.get("after", 0))
        return _json({"writes": [dataclasses.asdict(write) for write in writes], "last": last})

    def _requests(self, call: Call) -> Answer:
        heard = self._log.heard_after(int(call.query.get("after", 0)))
        return _json({"requests": [dataclasses.asdict(row) for row in heard]})

    def _state(self, call: Call) -> Answer:
        wanted = call.query.get("collection", "")
        names = [name for name in self._store.names() if wanted in ("", name)]
        contents = {name: self._store.all(name) for name in names}
        return _json({"collections": {name: {"count": len(rows), "objects": rows} for name, rows in contents.items()}})

    def _reset(self, call: Call) -> Answer:
        listed = _body(call).get("collections")
        fresh = collections_from(listed) if listed else (accounts(), shifts())
        self._faults.clear()
        self._store.reset(fresh)
        self._log.forget()
        return _json({"collections": list(self._store.names())})

    def _edit(self, call: Call) -> Answer:
        body = _body(call)
        write = self._store.edit(self._named(body), str(body["id"]), dict(body["changes"]))
        return _json(dataclasses.asdict(write))

    def _create(self, call: Call) -> Answer:
        body = _body(call)
        return _json(dataclasses.asdict(self._store.create(self._named(body), dict(body["document"]))), status=201)

    def _delete(self, call: Call) -> Answer:
        body = _body(call)
        return _json(dataclasses.asdict(self._store.delete(self._named(body), str(body["id"]))))

    def _named(self, body: dict[str, Any]) -> str:
        name = str(body["collection"])
        if self._store.spec(name) is None:
            raise ValueError(f"no collection {name!r}; there are: {', '.join(self._store.names())}")
        return name

    # ── forms ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _page(self, call: Call) -> Answer:
        board = Board(
            rules=tuple(self._faults.rules()),
            counts={name: len(self._store.listed(name)) for name in self._store.names()},
            writes=tuple(self._store.writes()[-_SHOWN:][::-1]),
            requests=tuple(self._log.heard_after(0)[-_SHOWN:][::-1]),
            fields={name: self._fields(name) for name in self._store.names()},
            notice=call.query.get("notice", "")[:300],
        )
        headers = {
            "Content-Security-Policy": CSP,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
        }
        return Answer(200, None, "raw", headers, "text/html; charset=utf-8", raw=page(board).encode())

    def _style(self, call: Call) -> Answer:
        return Answer(200, None, "raw", {"Cache-Control": "no-cache"}, "text/css; charset=utf-8", raw=STYLE.encode())

    def _fields(self, name: str) -> tuple[str, ...]:
        spec = self._store.spec(name)
        return tuple(spec.schema.get("properties", {})) if spec else ()

    def _form_switch(self, call: Call) -> Answer:
        form = _form(call)
        if form.get("off") == "all":
            self._faults.clear()
            return _back("Everything is switched off.")
        if form.get("off"):
            self._faults.remove(form["off"])
            return _back("Switched off.")
        rule: dict[str, Any] = {"preset": form["preset"]}
        for name in ("collection", "object_id"):
            if form.get(name):
                rule[name] = form[name]
        if form.get("times"):
            rule["times"] = int(form["times"])
        self._faults.add_json(rule)
        return _back(f"{form['preset']} is on.")

    def _form_change(self, call: Call) -> Answer:
        form = _form(call)
        collection, object_id, name = self._named(form), form["id"].strip(), form["field"].strip()
        spec = self._store.spec(collection)
        rules = spec.schema.get("properties", {}) if spec else {}
        try:
            if form.get("delete"):
                self._store.delete(collection, object_id)
                return _back(f"{object_id} was deleted.")
            if not name:
                return _back("Name the field to change.")
            self._store.edit(collection, object_id, {name: coerced(form["value"], rule=rules.get(name, {}))})
        except Refused as refused:
            return _back("; ".join((refused.detail, *(f"{field} {wrong}" for field, wrong in refused.errors))))
        return _back(f"{name} of {object_id} was changed.")


def _from_here(call: Call) -> bool:
    """Refuse other host names (rebinding) and requests that another site's page sent."""
    host = urlsplit("//" + call.headers.get("host", "")).hostname
    origin = call.headers.get("origin", "")
    foreign = origin not in ("", f"http://{call.headers.get('host', '')}")
    return host in _LOCAL and not (call.method != "GET" and foreign)


def _body(call: Call) -> dict[str, Any]:
    if not call.body:
        return {}
    try:
        body = json.loads(call.body)
    except (ValueError, RecursionError):
        raise ValueError("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ValueError("The body must be a JSON object.")
    return body


def _form(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.body.decode("utf-8", "replace"), keep_blank_values=True))


def _json(document: Any, *, status: int = 200) -> Answer:
    return Answer(status, document, "object")


def _problem(status: int, detail: str) -> Answer:
    return Answer(status, {"error": {"detail": detail}}, "error")


def _back(notice: str) -> Answer:
    return Answer(303, None, "none", {"Location": f"{PREFIX}?notice={quote(notice)}"})
