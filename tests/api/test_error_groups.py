"""Error groups over HTTP: whose numbers, which states, and that every act is an act with its reason."""

from datetime import timedelta

import pytest
from django.utils import timezone

from syncportal.access.keys import Scope
from syncportal.sync.models import Event, SyncJob
from tests.api.world import World, error_group

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "/api/v1/error-groups/"


def test_everybody_sees_the_groups_and_numbers_of_their_scope(world: World) -> None:
    group = error_group(world.resource, world.people["owner"])
    error_group(world.resource, world.people["other"])
    elsewhere = error_group(world.resource, world.people["other"], code="http_409")
    [mine] = world.caller("owner").get(LIST).json()["results"]
    assert (mine["id"], mine["code"], mine["state"]) == (str(group.pk), "http_422", "open")
    assert (mine["affected"], mine["occurrences"], mine["message"]) == (1, 1, "Refused.")
    everything = {row["code"]: row for row in world.caller("viewer").get(LIST).json()["results"]}
    assert {code: (row["affected"], row["occurrences"]) for code, row in everything.items()} == {
        "http_422": (2, 2), "http_409": (1, 1),
    }  # fmt: skip
    assert world.caller("owner").get(f"{LIST}{elsewhere.pk}/").status_code == 404
    assert world.caller("nobody").get(LIST).json()["results"] == []


def test_pages_and_filters(world: World) -> None:
    made = {error_group(world.resource, world.people["owner"], code=f"http_{code}").pk for code in range(400, 407)}
    client, url, seen = world.caller("operator"), f"{LIST}?pageSize=3", []
    while url:
        page = client.get(url).json()
        seen += [int(row["id"]) for row in page["results"]]
        url = page["next"]
    assert len(seen) == 7 and set(seen) == made
    SyncJob.objects.filter(error_group__code="http_400").update(error_group=None)
    for query, number in {
        "state=open": 6, "state=over": 1, "state=open&state=over": 7, "code=http_401": 1, "kind=rejected": 7,
        "kind=timeout": 0, f"remote={world.resource.remote.slug}": 7,
    }.items():  # fmt: skip
        assert len(client.get(f"{LIST}?{query}").json()["results"]) == number, query
    for query in ("state=x", "remote=nowhere", "cursor=bzo5OTk5OTk5OTk5OTk5OTk5OTk5", "id=1"):
        assert client.get(f"{LIST}?{query}").status_code == 400, query
    for pk in (2**63, 10**19 - 1, 10**25):
        assert client.get(f"{LIST}{pk}/").status_code == 404


def test_operations_look_away_note_and_watch_again(world: World) -> None:
    group = error_group(world.resource, world.people["owner"])
    client, at = world.caller("operator"), f"{LIST}{group.pk}"
    soon = (timezone.now() + timedelta(hours=1)).isoformat()
    assert client.post(f"{at}/snooze/", {"until": soon}).json()["state"] == "snoozed"
    assert client.post(f"{at}/ignore/", {"why": "Known"}).json()["state"] == "ignored"
    assert client.post(f"{at}/note/", {"note": "<b>Ask Ada"}).json()["note"] == "<b>Ask Ada"
    assert client.post(f"{at}/watch/", {}).json()["state"] == "open"
    acts = Event.objects.filter(kind__startswith="error_group.").order_by("pk")
    assert [(act.kind, act.actor_kind, act.actor_id) for act in acts] == [
        (f"error_group.{kind}", "api_key", world.people["operator"].pk)
        for kind in ("snoozed", "ignored", "noted", "reopened")
    ]
    for act, body, pointer in (
        ("snooze", {"until": "2020-01-01T00:00:00Z"}, "/until"), ("snooze", {}, "/until"),
        ("ignore", {"why": " "}, "/why"), ("note", {"note": "x" * 4_001}, "/note"),
        ("note", {"note": "x", "state": "over"}, "/state"),
    ):  # fmt: skip
        answer = client.post(f"{at}/{act}/", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), act
    assert world.caller("owner").post(f"{at}/watch/", {}).status_code == 403
    assert world.caller("operator", Scope.READ, Scope.WRITE).post(f"{at}/watch/", {}).status_code == 403
    assert acts.count() == 4
