"""Reading a resource's list page by page, and looking objects up in it.

Owns: `ListReader`. Guarantees: a cursor holds everything a page needs and no credential; a row that is no object of the
resource becomes a problem, never a crash; a page of stubs that runs out of time goes on where it stopped.
Does not: decide how many pages to read, or what a missing object means.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.kernel import strict_json
from syncportal.remote import formats, paging
from syncportal.remote.client import Deadline
from syncportal.remote.errors import InvalidResponse, Missing, Rejected
from syncportal.remote.knobs import ListSpec
from syncportal.remote.paging import PagingError, Seen, Step
from syncportal.remote.payloads import EMPTY, Answer, Exchange, Page, RemoteObject
from syncportal.remote.sending import Sender, failed_after
from syncportal.remote.spec import ResourceSpec
from syncportal.remote.urls import joined

RowReader = Callable[[dict[str, Any], str, Deadline | None], RemoteObject]
MOST_PROBLEMS = 20
LOOKUP_PAGES = 20
STUB_SPARE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Rows:
    """One list answer with its rows."""

    url: str
    answer: Answer
    rows: list[Any]


class ListReader:
    """Reads the list of one resource."""

    def __init__(self, spec: ResourceSpec, *, sender: Sender, read_row: RowReader) -> None:
        """Take how a row becomes an object from the gateway."""
        self.spec = spec
        self._sender = sender
        self._read_row = read_row

    def page(self, cursor: str | None, *, deadline: Deadline, since: datetime | None) -> Page:
        """Read the page that `cursor` names, or the first."""
        listing = self._listing()
        step = self._first_step(since) if cursor is None else _decoded(cursor)
        try:
            got = self._get(step, deadline=deadline, purpose="list")
        except Missing as problem:
            # Numbered pages end with a 404 at some remotes.
            if listing.page.style in ("page", "offset") and not step.is_first and problem.exchange is not None:
                return Page((), (), None, None, problem.exchange)
            raise
        objects, problems, cut = self._objects(got, step=step, deadline=deadline)
        body = got.answer.body
        total = paging.rows_in_all(listing.page, headers=got.answer.headers, body=body)
        following = replace(step, after=cut) if cut else self._following(step, got)
        return Page(
            objects=tuple(objects),
            problems=tuple(problems),
            next=None if following is None else following.encode(),
            total=total,
            exchange=got.answer.exchange,
            raw_count=len(got.rows),
        )

    def first(self, *, deadline: Deadline, purpose: str) -> Answer:
        """Get the first page's answer."""
        return self._get(self._first_step(None), deadline=deadline, purpose=purpose).answer

    def lookup(self, data: Mapping[str, Any], *, deadline: Deadline) -> tuple[list[RemoteObject], Exchange]:
        """Find the objects with the natural key of `data`, comparing it ourselves: remotes ignore unknown filters."""
        keys = self.spec.create.lookup
        if not keys or self.spec.listing is None:
            raise Rejected("The resource has no look-up by a natural key (create.lookup).", code="no_lookup")
        places = [at for value in keys.values() for at in places_in(value)]
        if any(pointers.get(data, at, None) in (None, "") for at in places):
            raise Rejected("The natural key of the look-up is empty in this record.", code="no_natural_key")
        step: Step | None = self._first_step(None)
        step = Step(params={**(step.params if step else {}), **{p: _looked_up(v, data) for p, v in keys.items()}})
        found: list[RemoteObject] = []
        for _ in range(LOOKUP_PAGES):
            got = self._get(step, deadline=deadline, purpose="lookup")
            objects, _, cut = self._objects(got, step=step, deadline=deadline)
            same = self.spec.comparator.same
            for item in objects:
                matches = all(
                    same(at, pointers.get(data, at, None), pointers.get(item.data, at, None)) for at in places
                )
                if matches and not item.tombstone:
                    found.append(item)
            step = replace(step, after=cut) if cut else self._following(step, got)
            if step is None:
                return found, got.answer.exchange
        raise failed_after(
            got.answer, InvalidResponse, "The look-up does not end: the remote seems to ignore its filter.",
            code="lookup_ignored",
        )  # fmt: skip

    def _listing(self) -> ListSpec:
        if self.spec.listing is None:
            raise Rejected("The resource has no list.", code="no_list")
        return self.spec.listing

    def _first_step(self, since: datetime | None) -> Step:
        params = paging.first_params(self._listing().page)
        rule, window = self.spec.modified_since, self.spec.window
        if since is not None and rule is not None:
            params[rule.param] = formats.time_text(since - timedelta(seconds=rule.overlap_s), rule.format)
        if window is not None:
            today = datetime.now(UTC).date()
            ends = (today - timedelta(days=window.days), today + timedelta(days=window.days))
            params.update({name: day.isoformat() for name, day in zip(window.params, ends, strict=False)})
        return Step(params=params)

    def _get(self, step: Step, *, deadline: Deadline, purpose: str) -> _Rows:
        listing, remote = self._listing(), self.spec.remote
        params = {**listing.params, **step.params}
        body, headers = None, None
        if step.url:
            url = step.url
            try:
                paging.ensure_same_origin(url, base_url=remote.base_url)
            except PagingError as problem:
                raise Rejected(f"{problem}.", code="paging") from None
        elif listing.method in ("GET", "HEAD"):
            url = joined(remote.base_url, listing.path, params)
        else:
            url = joined(remote.base_url, listing.path)
        if listing.method not in ("GET", "HEAD"):
            document: Any = {}
            for name, value in params.items():
                document = pointers.put(document, name if name.startswith("/") else pointers.build((name,)), value)
            body, headers = strict_json.dumps(document), {"Content-Type": remote.content_type}
        answer = self._sender.send(listing.method, url, purpose=purpose, deadline=deadline, headers=headers, body=body)
        return _Rows(url, answer, self._rows(answer))

    def _rows(self, answer: Answer) -> list[Any]:
        at = self._listing().items
        if answer.body is EMPTY:
            if answer.status == 204:
                return []
            raise failed_after(answer, InvalidResponse, "The list's answer is empty.", code="empty_answer")
        rows = pointers.get(answer.body, at, None)
        if isinstance(rows, list):
            return rows
        if rows is None and at and pointers.get(answer.body, at) is None:
            return []
        raise failed_after(
            answer, InvalidResponse, f"The answer has no array at {at or 'its top'} (list.items).", code="no_items"
        )

    def _objects(self, got: _Rows, *, step: Step, deadline: Deadline) -> tuple[list[RemoteObject], list[str], str]:
        """Turn rows into objects; the third value names the last row done when a page of stubs was cut short."""
        listing = self._listing()
        objects: list[RemoteObject] = []
        problems: list[str] = []
        rows = [self._row(row, index=index, problems=problems) for index, row in enumerate(got.rows)]
        kept = [(data, found) for data, found in rows if data is not None and found is not None]
        if step.after and any(found == step.after for _, found in kept):
            kept = kept[[found for _, found in kept].index(step.after) + 1 :]
        # Each stub is a call: a page of them sends no more than the rate allows in a second, its list's call included.
        most = max(1.0, (self.spec.remote.limits.per_second or math.inf) - 1)
        for index, (data, found) in enumerate(kept):
            if not listing.stub:
                objects.append(self._read_row(data, found, None))
                continue
            if index and (index >= most or deadline.left() < STUB_SPARE_S):
                return objects, problems[:MOST_PROBLEMS], kept[index - 1][1]
            try:
                objects.append(self._read_row(data, found, deadline))
            except Missing:
                continue
            except InvalidResponse as problem:
                problems.append(f"{found}: {problem.detail}")
        return objects, problems[:MOST_PROBLEMS], ""

    def _row(self, row: Any, *, index: int, problems: list[str]) -> tuple[dict[str, Any] | None, str | None]:
        at = self._listing().row
        data = pointers.get(row, at, None) if at else row
        if not isinstance(data, dict):
            problems.append(f"row {index + 1} is no object" + (f" at {at}" if at else ""))
            return None, None
        found = self.spec.external_id_of(data)
        if found is None:
            problems.append(f"row {index + 1} has no usable id at {', '.join(self.spec.id_pointers)}")
        return data, found

    def _following(self, step: Step, got: _Rows) -> Step | None:
        listing = self._listing()
        seen = Seen(
            url=got.url,
            base_url=self.spec.remote.base_url,
            headers=got.answer.headers,
            body=got.answer.body,
            rows=got.rows,
            last_id=self._raw_id(got.rows[-1]) if got.rows else None,
        )
        try:
            following = paging.following(listing.page, step=step, seen=seen)
        except (PagingError, ValueError) as problem:
            raise failed_after(
                got.answer, InvalidResponse, f"The list cannot be followed: {problem}.", code="paging"
            ) from None
        if following is not None and following.url:
            following = replace(following, url=self._sender.without_credential(following.url))
        return following

    def _raw_id(self, row: Any) -> Any:
        data = pointers.get(row, self._listing().row, None)
        if not isinstance(data, dict):
            return None
        if len(self.spec.id_pointers) == 1:
            return pointers.get(data, self.spec.id_pointers[0], None)
        return self.spec.external_id_of(data)


def _decoded(cursor: str) -> Step:
    try:
        return Step.decode(cursor)
    except PagingError as problem:
        raise Rejected(f"{problem}.", code="bad_cursor") from None


def places_in(value: str) -> list[str]:
    """Return the pointers in a look-up's value: the pointer itself, or those in braces of a filter text."""
    if value.startswith("/"):
        return [value]
    return [part.partition("}")[0] for part in value.split("{/")[1:] for part in ["/" + part] if "}" in part]


def _looked_up(value: str, data: Mapping[str, Any]) -> Any:
    if value.startswith("/"):
        return pointers.get(data, value, None)
    for at in places_in(value):
        value = value.replace("{" + at + "}", str(pointers.get(data, at, "")))
    return value
