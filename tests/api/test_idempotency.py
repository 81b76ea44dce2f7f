"""Idempotency-Key: same key and body, one effect and one answer."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.urls import get_resolver
from django.utils import timezone

from syncportal.access import idempotency
from syncportal.access.models import StoredAnswer
from syncportal.sync.api.records import RecordViews
from syncportal.sync.models import Event, Record
from tests.api.world import World, put_into
from tests.factories import NEW_ACCOUNT

RECORDS = "/api/v1/records/"


def make(world: World, client, key: str | None = "k-1", **changes: object):
    headers = {"HTTP_IDEMPOTENCY_KEY": key} if key is not None else {}
    return client.post(RECORDS, {"resource": world.resource.slug, "data": {**NEW_ACCOUNT, **changes}}, **headers)


def test_the_stored_answer_comes_again(world: World) -> None:
    client = world.caller("owner")
    first, second = make(world, client), make(world, client)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert (second["Location"], second["ETag"]) == (first["Location"], first["ETag"])
    assert Record.objects.filter(intent="create").count() == 1


def test_the_order_of_keys_does_not_make_another_body(world: World) -> None:
    client = world.caller("owner")
    whole = {"resource": world.resource.slug, "data": NEW_ACCOUNT}
    first = client.post(RECORDS, whole, HTTP_IDEMPOTENCY_KEY="k")
    second = client.post(RECORDS, dict(reversed(whole.items())), HTTP_IDEMPOTENCY_KEY="k")
    assert (first.status_code, second["Idempotent-Replayed"]) == (201, "true")


def test_another_body_or_address_is_422(world: World) -> None:
    client = world.caller("owner")
    make(world, client)
    answer = make(world, client, name="Other")
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    put_into(world.record, "ERROR")
    answer = client.post(f"{RECORDS}{world.record.pk}/retry/", HTTP_IDEMPOTENCY_KEY="k-1")
    assert answer.json()["code"] == "idempotency_key_reused"


def test_keys_belong_to_their_user(world: World) -> None:
    assert (
        make(world, world.caller("owner")).json()["id"] != make(world, world.caller("other"), name="Other").json()["id"]
    )


def test_a_refused_request_is_not_stored(world: World) -> None:
    client = world.caller("owner")
    assert make(world, client, email=5).status_code == 422
    assert not StoredAnswer.objects.exists()
    assert make(world, client).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "ä", "x" * 256, "a b"])
def test_an_unusable_key_is_400(world: World, key: str) -> None:
    assert make(world, world.caller("owner"), key=key).status_code == 400


def test_a_running_request_is_409_and_a_dead_one_does_not_block_for_ever(world: World) -> None:
    client = world.caller("owner")
    assert make(world, client).status_code == 201
    StoredAnswer.objects.update(status=None, held_until=timezone.now() + timedelta(seconds=30))
    answer = make(world, client)
    assert (answer.status_code, answer.json()["code"]) == (409, "request_in_progress")
    assert int(answer["Retry-After"]) >= 1
    StoredAnswer.objects.update(held_until=timezone.now() - timedelta(seconds=1))
    assert make(world, client).status_code == 201


def test_a_holder_that_was_overtaken_leaves_no_effect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.caller("owner")
    create = RecordViews._answer

    def overtaken(self, *args: object, **kwargs: object):
        StoredAnswer.objects.update(holder="somebody else")
        return create(self, *args, **kwargs)

    monkeypatch.setattr(RecordViews, "_answer", overtaken)
    assert make(world, client).status_code == 409
    assert Record.objects.filter(intent="create").count() == 0
    assert Event.objects.count() == 0


def test_an_error_of_ours_stores_nothing_and_does_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordViews, "_answer", lambda *args, **kwargs: 1 / 0)
    assert make(world, world.caller("owner")).status_code == 500
    assert Record.objects.filter(intent="create").count() == 0
    assert not StoredAnswer.objects.exists()


def test_old_answers_are_forgotten_after_seven_days(world: World) -> None:
    make(world, world.caller("owner"))
    now = timezone.now()
    assert idempotency.prune(now=now + timedelta(days=6)) == 0
    assert idempotency.prune(now=now + timedelta(days=8)) == 1


def test_every_post_of_the_api_takes_the_header() -> None:
    posts = {
        f"{callback.cls.__name__}.{callback.actions['post']}": getattr(callback.cls, callback.actions["post"])
        for prefix in get_resolver().url_patterns
        if str(prefix.pattern) == "api/v1/"
        for route in prefix.url_patterns
        if "post" in getattr(callback := route.callback, "actions", {})
    }
    assert posts
    assert [name for name, handler in posts.items() if not getattr(handler, "is_idempotent", False)] == []


@pytest.mark.db
@pytest.mark.django_db(transaction=True)
def test_requests_at_once_have_one_effect() -> None:
    world = World()
    client = world.caller("owner")
    start = threading.Barrier(8)
    statuses: list[int] = []

    def call() -> None:
        start.wait()
        try:
            statuses.append(make(world, client).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 201 in statuses
    assert set(statuses) <= {201, 409}
    assert Record.objects.filter(intent="create").count() == 1
    assert make(world, client)["Idempotent-Replayed"] == "true"
