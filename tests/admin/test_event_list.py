"""The lists of events and conflicts: words that people read, codes for those who search."""

import re
from typing import Any

import pytest
from django.urls import reverse

from syncportal.kernel.clock import db_now
from syncportal.sync import events
from syncportal.sync.events import Fact, Kind
from syncportal.sync.models import Event
from syncportal.sync.screens.timeline import LOOKS
from tests.admin.conftest import World


def test_every_event_has_words() -> None:
    assert {kind.value for kind in Kind} == {str(kind) for kind in LOOKS}
    assert all(re.fullmatch(r"[A-Z][^._]*", title) for title, _, _ in LOOKS.values())


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (Kind.SYNC_FAILED, {"detail": "No answer.", "attempt": 2}, ["Attempt failed", "No answer."]),
        (Kind.REMOTE_PAUSED, {"remote": "crm", "detail": "401"}, ["Remote paused", "crm · 401"]),
        (Kind.PULL_FINISHED, {"seen": 1200, "created": 3, "state": "failed", "problem": "Given up."},
         ["Pull ended", "1,200 seen, 3 created · Given up."]),
        (Kind.DISCREPANCY_FOUND, {"kind": "data_mismatch", "cause": "changed_remotely", "external_id": "a_b"},
         ["Found to differ from the remote", "kind: data mismatch · cause: changed remotely · external id: a_b"]),
        (Kind.RECONCILIATION_STARTED, {"scope": "all", "dry_run": True}, ["Reconciliation begun", "dry run: yes"]),
        (Kind.JOB_REQUEUED, {"was": "DEAD_LETTER"}, ["Requeued", "was: Dead letter"]),
    ],
)  # fmt: skip
def test_an_event_is_told_in_words_and_its_code_is_kept(
    world: World, kind: Kind, data: dict[str, Any], words: list[str]
) -> None:
    Event.objects.all().delete()
    events.write([Fact(kind, world.records[0].pk, world.resource.pk, data=data)], now=db_now())
    text = world.client("ops").get(reverse("admin:sync_event_changelist")).content.decode()
    row = text[text.index('id="result_list"') :]
    for word in words:
        assert word in row, word
    assert f'title="{kind.value}"' in row and f"&quot;kind&quot;: &quot;{kind.value}&quot;" in row
    visible = re.sub(r"<pre.*?</pre>", "", row, flags=re.S)
    assert kind.value not in re.sub(r"<[^>]*>", "", visible)


def test_the_filter_of_kinds_offers_words(world: World) -> None:
    client, address = world.client("ops"), reverse("admin:sync_event_changelist")
    events.write([Fact(Kind.SYNC_FAILED, world.records[0].pk, world.resource.pk)], now=db_now())
    page = client.get(address, {"kind": "sync.failed"})
    assert set(page.context["cl"].result_list.values_list("kind", flat=True)) == {"sync.failed"}
    assert "Attempt failed" in page.content.decode()


def test_conflicts_name_fields_as_the_form_does(world: World) -> None:
    world.conflict(world.records[0], remote={"credit": 500}, credit=300)
    text = world.client("ops").get(reverse("admin:sync_conflict_changelist")).content.decode()
    assert '<span title="/credit">Credit</span>' in text
