"""Protocols that are known to be wrong must fail the same checker; the table is printed."""

import pytest

from tests.crash import controls
from tests.crash.world import Base


def test_the_checker_finds_out_every_wrong_protocol_and_acquits_ours(
    base: Base,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = controls.table(base, seed=7, count=150)
    with capsys.disabled():
        print("\n" + controls.printed(rows))
    found = {row.name: row.bad for row in rows}
    assert found.pop("ours") == 0
    assert all(found.values()), found
    assert found["naive (source document)"] > found["no fence"]
