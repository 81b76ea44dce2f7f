"""The counting act, known for one test."""

from collections.abc import Iterator

import pytest

from syncportal.bulk import acts
from tests.bulk import counting
from tests.bulk.counting import Counter


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter]:
    """Make the counting act known for one test."""
    made = Counter()
    monkeypatch.setattr(counting.COUNT_PATH, made.act())
    monkeypatch.setitem(acts._paths, "tests.count", counting.COUNT_PATH)
    monkeypatch.setattr(acts, "import_string", lambda path: counting.COUNT if path.endswith("COUNT") else None)
    yield made
