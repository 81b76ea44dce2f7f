"""API keys are made, shown once and revoked in the browser; workers and timetable tell how they do."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ
from rest_framework.test import APIClient

from syncportal.access import keys
from syncportal.access.keys import Scope
from syncportal.access.models import ApiKey
from syncportal.kernel.clock import db_now
from syncportal.ops import duties, heartbeat
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import Duty, WorkerState
from syncportal.sync.models import Event
from tests.admin.conftest import HOSTILE, World

LIST = reverse("admin:access_apikey_changelist")
ADD = reverse("admin:access_apikey_add")
WORKERS = reverse("admin:ops_heartbeat_changelist")
TIMETABLE = reverse("admin:ops_duty_changelist")
READS = {"name": "report", "read": "on", "days": "30"}


def key_in(text: str) -> str:
    found = re.search(r"<pre[^>]*>(sp_[^<]+)</pre>", text)
    assert found is not None
    return unescape(found[1])


def ask(key: str) -> int:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client.get("/api/v1/records/").status_code


def made(user: User, **options: object) -> ApiKey:
    values = {"name": "k", "scopes": [Scope.READ], "expires_at": None, "now": timezone.now(), **options}
    keys.create_key(user, **values)  # type: ignore[arg-type]
    return ApiKey.objects.latest("pk")


def test_a_key_is_shown_once_and_works(world: World) -> None:
    client = world.client("olga")
    assert "There are no API keys yet" in client.get(LIST).content.decode()
    answer = client.post(ADD, READS)
    key, row = key_in(answer.content.decode()), ApiKey.objects.get()
    assert "no-store" in answer["Cache-Control"]
    assert (row.user, row.name, row.scopes) == (world.people["olga"], "report", ["read"])
    assert timedelta(days=29) < row.expires_at - timezone.now() <= timedelta(days=30)
    assert ask(key) == 200
    for page in (LIST, reverse("admin:access_apikey_change", args=[row.pk])):
        text = client.get(page).content.decode()
        assert "report" in text and key not in text
    [event] = Event.objects.filter(kind="api_key.made")
    assert (event.actor, event.data["prefix"]) == (world.people["olga"], row.prefix)
    assert key.removeprefix(row.prefix) not in str(event.data)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"read": ""}, "Choose at least one"),
        ({"name": ""}, "required"),
        ({"days": "-1"}, "valid choice"),
        ({"name": "x" * 101}, "100"),
    ],
)
def test_what_does_not_fit_is_named_and_makes_no_key(world: World, changes: dict, says: str) -> None:
    answer = world.client("olga").post(ADD, {**READS, **changes})
    assert (answer.status_code, ApiKey.objects.count()) == (422, 0)
    assert says in unescape(answer.content.decode())


def test_only_administrators_make_keys_for_others_and_nobody_for_somebody_with_more_rights(world: World) -> None:
    world.client("olga").post(ADD, {**READS, "person": "otto"})
    assert ApiKey.objects.get().user == world.people["olga"], "the field is not hers to send"
    anna = world.client("anna")
    anna.post(ADD, {**READS, "person": "otto"})
    assert ApiKey.objects.latest("pk").user == world.people["otto"]
    User.objects.create_superuser("root")
    refused = anna.post(ADD, {**READS, "person": "root"})
    assert "Only a superuser" in refused.content.decode()
    assert "no active person" in anna.post(ADD, {**READS, "person": "nowhere"}).content.decode()
    assert ApiKey.objects.count() == 2


def test_a_revoked_key_is_refused_from_then_on_and_stays_in_the_list(world: World) -> None:
    client = world.client("olga")
    key = key_in(client.post(ADD, READS).content.decode())
    page = reverse("admin:access_apikey_revoke", args=[ApiKey.objects.get().pk])
    assert client.get(page).status_code == 405
    assert "are refused from now on" in client.post(page, follow=True).content.decode()
    assert ask(key) == 401
    assert "revoked already" in client.post(page, follow=True).content.decode()
    assert "Revoked" in client.get(LIST).content.decode()
    assert Event.objects.filter(kind="api_key.revoked", actor=world.people["olga"]).count() == 1


def test_keys_of_others_are_seen_and_revoked_by_administrators_only(world: World) -> None:
    row = made(world.people["olga"], name=HOSTILE[0])
    pages = [reverse(f"admin:access_apikey_{verb}", args=[row.pk]) for verb in ("change", "revoke")]
    for who in ("otto", "ops", "vera", "nobody"):
        client = world.client(who)
        assert "There are no API keys yet" in client.get(LIST).content.decode()
        assert [client.get(pages[0]).status_code, client.post(pages[1]).status_code] == [404, 404]
    ApiKey.objects.filter(revoked_at=None).get()
    anna = world.client("anna")
    assert HOSTILE[0] not in anna.get(LIST).content.decode()
    assert anna.get(pages[0]).status_code == 200
    anna.post(pages[1])
    assert not ApiKey.objects.filter(revoked_at=None).exists()


def test_the_list_says_why_a_key_does_not_work(world: World) -> None:
    made(world.people["otto"], expires_at=timezone.now())
    User.objects.filter(username="vera").update(is_active=False)
    made(world.people["vera"])
    text = world.client("anna").get(LIST).content.decode()
    assert "Expired" in text and "Person inactive" in text
    assert "Nothing matches" in world.client("anna").get(f"{LIST}?q=nowhere").content.decode()


def test_workers_are_shown_with_their_pool_and_restarts(world: World) -> None:
    now = db_now()
    heartbeat.beat(Beat("alpha", 4711, WorkerState.RUNNING, 2.0, 3, {"workers": 3}), now=now)
    heartbeat.beat(Beat("beta", 4712, WorkerState.RUNNING), now=now - timedelta(minutes=5))
    text = world.client("vera").get(WORKERS).content.decode()
    rows = [re.sub(r"\s*<[^>]+>\s*", " ", row) for row in re.findall(r"<tr>.*?</tr>", text, re.S)]
    [alpha] = [row for row in rows if "alpha" in row]
    [beta] = [row for row in rows if "beta" in row]
    assert "Running" in alpha and " 3 " in alpha and "Silent" in beta and "never" in beta
    assert rows.index(alpha) < rows.index(beta)
    assert "No worker is running" not in text


def test_that_no_worker_runs_is_said_when_none_was_ever_seen(world: World) -> None:
    text = world.client("ops").get(WORKERS).content.decode()
    assert "No worker is running" in text and "None was seen within a day" in text


def test_the_timetable_tells_how_duties_went(world: World) -> None:
    duties.run_now("seal")
    Duty.objects.create(name="sweep", every_s=60, last_started_at=db_now(), last_ok=False, failures=2,
                        last_result=f"DatabaseError: {HOSTILE[0]}")  # fmt: skip
    Duty.objects.create(name="alerts", every_s=60, last_started_at=db_now() - timedelta(minutes=9))
    text = world.client("ops").get(TIMETABLE).content.decode()
    assert "0 sealed" in text and "Failed" in text and "2 times in a row" in text and "Late" in text
    assert HOSTILE[0] not in text


def test_operations_ask_for_a_duty_to_run_now(world: World) -> None:
    page = reverse("admin:ops_duty_run", args=["sweep"])
    assert "was asked to run" in world.client("ops").post(page, follow=True).content.decode()
    assert OrmQ.objects.count() == 1
    assert world.client("vera").post(page).status_code == 403
    assert "Run now" not in world.client("vera").get(TIMETABLE).content.decode()
    assert world.client("ops").post(reverse("admin:ops_duty_run", args=["reboot"])).status_code == 404
    assert world.client("olga").get(WORKERS).status_code == 403
    assert Client().get(WORKERS).status_code == 302
    assert OrmQ.objects.count() == 1
