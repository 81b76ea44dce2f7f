"""The list as one walk: pages read ahead in a thread, and whether the list itself can be trusted. No database.

Owns: `Walk`, what it remembers between slices, and the signs of a broken list. Guarantees: a list that runs in a circle
ends; one page is read ahead while the last one is compared; nothing is read ahead past the slice's time.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from django.conf import settings

from reconciliation.pace import Pace
from syncportal.kernel.clock import db_now
from syncportal.remote.client import Deadline
from syncportal.remote.errors import RemoteError, Throttled, Unauthorized
from syncportal.remote.gateway import ResourceClient
from syncportal.remote.payloads import Page
from syncportal.sync.slots import NoSlot

MOST_PAGES = 1_000_000


@dataclass(slots=True)
class Place:
    """Where a walk stands, as stored with each page.

    page: cursor of the next page, "" for the first. before: cursor of the page last taken. rows: shown so far; total:
    the largest number that the list claimed to have. mark, power and steps find a circle (Brent): the mark of one
    earlier page is kept, of a later one each time the distance doubles. trouble: what is wrong with the list.
    """

    page: str = ""
    before: str = ""
    pages: int = 0
    rows: int = 0
    total: int = 0
    mark: str = ""
    power: int = 1
    steps: int = 0
    ended: bool = False
    trouble: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Rebuild a place from a run's cursor."""
        return cls(**stored)

    def as_json(self) -> dict[str, Any]:
        """Return what is stored."""
        return asdict(self)

    def pass_page(self, page: Page) -> None:
        """Step over a page that was taken: note what it says about the list and where the walk goes on."""
        ids = [shown.external_id or "" for shown in page.objects]
        self.pages += 1
        self.rows += len(page.objects) + len(page.problems)
        self.total = max(self.total, page.total or 0)
        self.before, self.page = self.page, page.next or ""
        self.ended = page.next is None
        circle = self._met_before(ids)
        if circle and not self.ended:
            self.trouble, self.ended = "The list runs in a circle.", True
        elif self.pages >= MOST_PAGES:
            self.trouble, self.ended = f"The list did not end after {MOST_PAGES} pages.", True

    def _met_before(self, ids: list[str]) -> bool:
        if not ids:
            return False
        mark = hashlib.sha256("\x00".join(ids).encode("utf-8", "surrogatepass")).hexdigest()[:24]
        if mark == self.mark:
            return True
        self.steps += 1
        if self.steps >= self.power:
            self.mark, self.power, self.steps = mark, self.power * 2, 0
        return False

    def break_off(self, error: RemoteError) -> None:
        """End the walk where the list cannot be followed any further."""
        self.trouble, self.ended = f"The list could not be read to its end: {error.detail}", True

    def shortfall(self) -> int:
        """Return how many rows the list claimed and did not show."""
        return max(0, self.total - self.rows)


def is_passing(error: RemoteError) -> bool:
    """Tell whether an error says nothing about the list: the remote, the network or the credential is in trouble."""
    return error.transient or isinstance(error, Throttled | Unauthorized)


@dataclass(frozen=True, slots=True)
class Taken:
    """One page, when it was asked for, and under which cursor."""

    page: Page
    asked_at: datetime
    cursor: str


class Walk:
    """Reads pages, one ahead, until the list ends or the slice's time is over; at least one. place: where it stands."""

    def __init__(self, client: ResourceClient, place: Callable[[], Place], *, pace: Pace, until: float) -> None:
        self._client, self._place, self._pace, self._until = client, place, pace, until

    def pages(self) -> Iterator[Taken]:
        """Yield pages; the caller moves the place before it asks for the next one. Raises RemoteError or NoSlot.

        A page that was read is yielded even where the next may not be asked for.
        """
        with ThreadPoolExecutor(1) as pool:
            ahead: tuple[Future[Page], datetime, str] | None = None
            first = True
            while not self._place().ended and (ahead or first or time.monotonic() < self._until):
                first = False
                future, asked_at, cursor = ahead or self._ask(pool, self._place().page)
                page = self._answer(future)
                more = page.next is not None and page.next != cursor and time.monotonic() < self._until
                refused: NoSlot | None = None
                try:
                    ahead = self._ask(pool, page.next or "") if more else None
                except NoSlot as no_slot:
                    refused = no_slot
                yield Taken(page, asked_at, cursor)
                if refused is not None:
                    raise refused
            if ahead is not None:
                ahead[0].cancel()

    def _answer(self, future: Future[Page]) -> Page:
        try:
            page = future.result()
        except RemoteError as error:
            self._pace.heard(error)
            raise
        self._pace.heard(None)
        return page

    def _ask(self, pool: ThreadPoolExecutor, cursor: str) -> tuple[Future[Page], datetime, str]:
        self._pace.calls(1)
        asked_at = db_now()
        deadline = Deadline(settings.CALL_TOTAL_S)
        return pool.submit(self._client.list_page, cursor or None, deadline=deadline), asked_at, cursor
