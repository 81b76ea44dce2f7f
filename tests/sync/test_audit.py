"""The chain over the acts of people shows every change, and only acts of people are in it."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from syncportal.sync import audit, events
from syncportal.sync.events import Actor, Fact, Kind
from syncportal.sync.models import Event

pytestmark = [pytest.mark.db, pytest.mark.django_db(transaction=True)]
PAT = Actor("user", label="pat")


def act(number: int, actor: Actor = PAT) -> None:
    data = {"number": number, "name": "Ö", "rate": 0.1}
    events.write([Fact(Kind.RECORD_EDITED, actor=actor, data=data)], now=timezone.now())


def sealed(count: int = 5) -> list[Event]:
    for number in range(count):
        act(number)
        act(number, events.WORKER)
    assert audit.seal(timezone.now()) == count
    return list(Event.objects.exclude(seal="").order_by("seal"))


def test_acts_of_people_are_sealed_once_and_the_chain_holds() -> None:
    chain = sealed()
    assert {event.actor_kind for event in chain} == {"user"}
    assert audit.seal(timezone.now()) == 0
    assert audit.verify() is None
    act(9, Actor("api_key", label="import"))
    assert audit.seal(timezone.now()) == 1
    assert audit.verify() is None


@pytest.mark.parametrize(
    "change",
    [
        {"data": {"number": 99}},
        {"actor_label": "somebody else"},
        {"kind": "record.deleted"},
        {"actor_kind": "worker"},
        {"at": timezone.now() - timedelta(days=9_000)},
    ],
)
def test_a_changed_act_shows(change: dict[str, Any]) -> None:
    chain = sealed()
    Event.objects.filter(pk=chain[2].pk).update(**change)
    assert audit.verify() == chain[2].pk


def test_a_removed_act_shows_at_the_next_one() -> None:
    chain = sealed()
    chain[2].delete()
    assert audit.verify() == chain[3].pk


def test_two_swapped_acts_show() -> None:
    chain = sealed()
    first, second = chain[1].seal, chain[2].seal
    Event.objects.filter(pk=chain[1].pk).update(seal=second)
    Event.objects.filter(pk=chain[2].pk).update(seal=first)
    assert audit.verify() is not None


def test_an_act_that_is_unsealed_and_sealed_again_shows() -> None:
    chain = sealed()
    Event.objects.filter(pk=chain[1].pk).update(seal="")
    audit.seal(timezone.now())
    assert audit.verify() == chain[2].pk


def test_an_act_whose_id_is_lower_but_committed_later_is_no_break() -> None:
    chain = sealed()
    late = Event.objects.create(pk=chain[0].pk + 1_000, at=timezone.now(), kind="record.edited", actor_kind="user")
    audit.seal(timezone.now())
    Event.objects.create(pk=late.pk - 500, at=timezone.now(), kind="record.edited", actor_kind="user")
    assert audit.seal(timezone.now()) == 1
    assert audit.verify() is None


def test_pruned_oldest_acts_are_no_break() -> None:
    chain = sealed()
    Event.objects.filter(pk__in=[chain[0].pk, chain[1].pk]).delete()
    assert audit.verify() is None


def test_many_sealers_make_one_chain() -> None:
    for number in range(300):
        act(number)

    def work() -> None:
        try:
            audit.seal(timezone.now())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.seal(timezone.now())
    assert not Event.objects.filter(seal="").exists()
    assert audit.verify() is None
