"""Outcomes reach whoever saved, in words that people read."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from syncportal.sync.live.news import moved, outcomes
from syncportal.sync.live.tail import told
from tests.api.world import World, happened
from tests.sync.listening import saved, settled

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.db]


def savers(event_id: int) -> set[int]:
    [one] = told([event_id], now=timezone.now())
    return set(one.savers)


def test_an_outcome_reaches_whoever_saved_what_was_sent(world: World) -> None:
    owner, operator = world.people["owner"].pk, world.people["operator"].pk
    saved(world, "owner", 2)
    saved(world, "operator", 3)
    assert savers(settled(world, 2, "sync.failed")) == {owner}
    assert savers(settled(world, 3)) == {owner, operator}
    assert savers(settled(world, 4)) == set(), "told before"
    saved(world, "owner", 5)
    saved(world, "operator", 6)  # while 5 is being sent
    assert savers(settled(world, 5)) == {owner}
    assert savers(settled(world, 6)) == {operator}
    saved(world, "owner", 7, at=timezone.now() - timedelta(hours=2))
    happened(world.record, "record.edited", actor=world.people["operator"], actor_kind="api_key", data={"revision": 7})
    assert savers(settled(world, 7)) == set(), "long ago, or by a program"


@pytest.mark.parametrize(
    ("kind", "data", "text", "tone", "over"),
    [
        ("sync.succeeded", {"operation": "update"}, "synced", "success", True),
        ("sync.succeeded", {"operation": "delete"}, "deleted at the remote", "success", True),
        ("sync.failed", {"detail": "It is <b>down</b>."}, "failed: It is <b>down</b>", "error", True),
        ("sync.failed", {"reason": "timeout", "wait": 5}, "failed: timeout; retry in 5 s", "warning", False),
        ("sync.postponed", {"reason": "throttled", "wait": 600}, "waits for the remote: throttled; retry in 10 min",
         "warning", False),
        ("sync.conflict", {}, "both sides changed; decide which value is right", "warning", True),
        ("sync.dead_lettered", {"detail": "x" * 999}, "given up: " + "x" * 159 + "…", "error", True),
    ],
)  # fmt: skip
def test_what_people_read(world: World, kind: str, data: dict[str, Any], text: str, tone: str, over: bool) -> None:
    saved(world, "owner", 2)
    now = timezone.now()
    wait = data.pop("wait", None)
    until = {"next_attempt_at": (now + timedelta(seconds=wait)).isoformat()} if wait else {}
    event = happened(world.record, kind, at=now, data={"revision": 2, **data, **until})
    [one] = outcomes(told([event.pk], now=now), user_id=world.people["owner"].pk)
    assert (one.text, one.tone, one.over, one.record) == (text, tone, over, world.record.pk)
    assert outcomes(told([event.pk], now=now), user_id=world.people["operator"].pk) == []


def test_very_many_records_are_not_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = told([happened(world.record).pk, happened(world.others).pk], now=timezone.now())
    assert moved(seen)["records"] == [world.record.pk, world.others.pk]
    monkeypatch.setattr("syncportal.sync.live.news.NAMED", 1)
    assert moved(seen)["records"] is None
