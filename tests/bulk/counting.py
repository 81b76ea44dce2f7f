"""A bulk act that counts what it is asked to do, and operations made with it."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from syncportal.bulk import journal, work
from syncportal.bulk.acts import Act, Batch, Result, Target, Verdict
from syncportal.bulk.models import BulkOperation
from syncportal.bulk.states import RowState

NOW = timezone.now


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Counter:
    """An act that counts how often it was done to each row, and can be told to die or to break."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.fates: dict[int, RowState] = {}
        self.breaks_on: int | None = None
        self.dies_after: int | None = None

    def act(self, **changes: Any) -> Act:
        plain: dict[str, Any] = {
            "name": "tests.count", "label": "Count", "done": "counted", "nouns": ("row", "rows"), "promise": "",
            "home": "admin:index", "may": lambda user: user.is_active, "scope": lambda user, ids: set(ids),
            "preview": lambda ids, parameters: dict.fromkeys(ids, Verdict("Row")), "run": self.run,
            "targets": lambda ids: {pk: Target(str(pk)) for pk in ids},
        }  # fmt: skip
        return Act(**plain | changes)

    def run(self, batch: Batch) -> dict[int, Result]:
        if self.breaks_on in batch.ids:
            raise RuntimeError("a bug")
        self.seen += batch.ids
        if self.dies_after is not None and len(self.seen) >= self.dies_after:
            self.dies_after = None
            raise Killed
        return {pk: Result(RowState.DONE, "counted") for pk in batch.ids}

    def watch(self, ids: Any) -> dict[int, Result]:
        return {pk: Result(self.fates.get(pk, RowState.WAITING), "503 again") for pk in ids}


COUNT: Act = None  # type: ignore[assignment]
COUNT_PATH = f"{__name__}.COUNT"


def operation(count: int, *, ramp: bool = False, act: str = "tests.count", ids: list[int] | None = None) -> int:
    user, _ = User.objects.get_or_create(username="ops", defaults={"is_superuser": True})
    new = journal.NewOperation(act, ids or list(range(1, count + 1)), user.pk, "ops", ramp=ramp)
    return journal.prepare(new, now=NOW()).pk


def started(count: int, **options: Any) -> int:
    pk = operation(count, **options)
    assert work.begin(pk, parameters={})
    return pk


def counts(pk: int) -> tuple[str, int, int, int, int]:
    row = BulkOperation.objects.get(pk=pk)
    found = {state: row.rows.filter(state=state).count() for state in RowState.values}
    assert (row.done, row.skipped, row.failed, row.handed_over, row.waiting) == (
        found["done"], found["skipped"], found["failed"], found["handed_over"], found["waiting"],
    )  # fmt: skip
    return row.state, row.done, row.skipped, row.failed, row.waiting
