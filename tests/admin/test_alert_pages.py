"""The pages about alerts: who gets in, what they say, and that every act is a POST with its token."""

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from syncportal.ops.alerts import alert_store, channels, digests, outbox, rule_store
from syncportal.ops.alerts.models import Alert, AlertRule, Channel, Delivery, DigestChoice, Silence
from syncportal.ops.alerts.outbox import NewDelivery
from syncportal.ops.alerts.wording import Words
from syncportal.sync.events import Actor
from syncportal.sync.models import Event
from tests.admin.conftest import HOSTILE, World
from tests.admin.test_safety import dangers
from tests.ops.alerts.receivers import Hook, web_hook
from tests.ops.test_metrics import a_record, an_attempt, happen

SEEING, ACTING, CONFIGURING = {"ops", "vera", "anna"}, {"ops", "anna"}, {"anna"}


@pytest.fixture
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


@pytest.fixture
def alert(world: World) -> Alert:
    """One open alert with hostile words, told over one channel."""
    rule_store.ensure()
    channels.ensure()
    now = timezone.now()
    made = Alert.objects.create(
        rule=AlertRule.objects.get(kind="dead_letters"), kind="dead_letters", remote=world.resource.remote,
        scope_key=f"remote:{world.resource.remote_id}", scope_name=HOSTILE[0], severity="warning", summary=HOSTILE[1],
        since=now - timedelta(hours=1), opened_at=now, seen_at=now, news_count=1,
        news=[{"where": HOSTILE[2], "what": HOSTILE[5], "why": HOSTILE[6], "path": ""}],
    )  # fmt: skip
    words = Words(HOSTILE[0], "\n".join(HOSTILE), {})
    channel = Channel.objects.get(setting="OPERATIONS_EMAIL")
    [sent] = outbox.put([NewDelivery("opened", words, channel_id=channel.pk, alert_id=made.pk)], now=now)
    Delivery.objects.filter(pk=sent.pk).update(last_error=HOSTILE[6])
    Silence.objects.create(reason=HOSTILE[0], begun_at=now, ends_at=now + timedelta(hours=1), made_label=HOSTILE[1])
    return made


def addresses(alert: Alert) -> dict[str, str]:
    rule, channel = alert.rule_id, Channel.objects.get(setting="OPERATIONS_EMAIL").pk
    delivery = Delivery.objects.filter(alert=alert).latest("id").pk
    made = {name: reverse(f"admin:ops_{name}_changelist") for name in ("alert", "delivery", "silence", "alertrule",
                                                                       "channel")}  # fmt: skip
    pages = {"alert": alert.pk, "delivery": delivery, "alertrule": rule, "channel": channel}
    made |= {f"one {name}": reverse(f"admin:ops_{name}_change", args=[pk]) for name, pk in pages.items()}
    for name in ("alertrule", "channel"):
        made[f"{name} history"] = reverse(f"admin:ops_{name}_history", args=[pages[name]])
    return made


def test_who_sees_every_record_sees_alerts_and_nobody_else(world: World, alert: Alert) -> None:
    wrong = [
        (label, who, status)
        for label, address in addresses(alert).items()
        for who in ("olga", "nobody", "vera")
        if ((status := world.client(who).get(address).status_code) == 200) != (who in SEEING)
    ]
    assert wrong == []
    for name in ("alertrule", "channel"):
        address = reverse(f"admin:ops_{name}_add")
        assert {who for who in world.people if world.client(who).get(address).status_code == 200} == CONFIGURING


def test_acts_are_for_operations_and_changes_for_administrators(world: World, alert: Alert) -> None:
    made = addresses(alert)
    acts = {
        reverse("admin:ops_alert_acknowledge", args=[alert.pk]): ACTING,
        reverse("admin:ops_alert_silence", args=[alert.pk]): ACTING,
        reverse("admin:ops_delivery_resend", args=[Delivery.objects.get().pk]): ACTING,
        reverse("admin:ops_silence_end", args=[Silence.objects.get().pk]): ACTING,
        reverse("admin:ops_channel_test", args=[Channel.objects.get(setting="OPERATIONS_EMAIL").pk]): ACTING,
        made["silence"]: ACTING,
        made["one alertrule"]: CONFIGURING,
        made["one channel"]: CONFIGURING,
        reverse("admin:ops_alertrule_remove", args=[alert.rule_id]): CONFIGURING,
        reverse("admin:ops_channel_remove", args=[Channel.objects.get(setting="OPERATIONS_EMAIL").pk]): CONFIGURING,
    }
    for address, allowed in acts.items():
        for who in world.people:
            if who not in allowed:
                assert world.client(who).post(address).status_code == 403, (address, who)
        strict = Client(enforce_csrf_checks=True)
        strict.force_login(world.people["anna"])
        assert strict.post(address).status_code == 403
        if address not in made.values():
            assert world.client("anna").get(address).status_code == 405
        assert world.client("anna").post(address).status_code in (200, 302, 409, 422), address


def test_hostile_words_are_words_on_every_page(world: World, alert: Alert) -> None:
    client = world.client("anna")
    for label, address in addresses(alert).items():
        assert dangers(client.get(address).content.decode()) == [], label
    for query in ("?state=%00", "?channel=x", "?alert=99999999999999999999", "?severity=<b>", "?q=%00", "?p=x"):
        for name in ("alert", "delivery"):
            assert client.get(addresses(alert)[name] + query).status_code < 500


def test_a_rates_alert_leads_to_the_attempts_that_it_was_judged_by(world: World) -> None:
    rule_store.ensure()
    record, now = a_record(world.resource), timezone.now()
    for minutes, outcome, code in ((2, "fail", "http_422"), (3, "complete", ""), (40, "fail", "http_422")):
        happen(an_attempt(record, now - timedelta(minutes=minutes), outcome, code))
    made = Alert.objects.create(
        rule=AlertRule.objects.get(kind="success_rate"), kind="success_rate", resource=world.resource,
        scope_key=f"resource:{world.resource.pk}", severity="warning", since=now, opened_at=now, seen_at=now,
    )  # fmt: skip
    page = world.client("ops").get(reverse("admin:ops_alert_change", args=[made.pk])).content.decode()
    [url] = re.findall(r'<a href="([^"]+)">Failed exchanges of', page)
    assert world.client("ops").get(unescape(url)).context["cl"].paginator.count == 1
    assert "so nobody is told" in page


def test_a_person_takes_an_alert_on_once(world: World, alert: Alert) -> None:
    address = reverse("admin:ops_alert_acknowledge", args=[alert.pk])
    page = world.client("ops").post(address, {"note": "On it"}, follow=True).content.decode()
    assert "It is yours." in page and "ops has it." in page
    assert "somebody else took it on" in world.client("anna").post(address, follow=True).content.decode()
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_label, alert.note) == ("acknowledged", "ops", "On it")
    assert Event.objects.get(kind="alert.acknowledged").actor_id == world.people["ops"].pk


def test_the_page_says_when_people_are_reminded_until_somebody_takes_it_on(world: World, alert: Alert) -> None:
    told = timezone.now() - timedelta(hours=2)
    Alert.objects.filter(pk=alert.pk).update(told="open", told_severity="warning", told_at=told, news=[], news_count=0)
    client, page = world.client("ops"), reverse("admin:ops_alert_change", args=[alert.pk])
    text = client.get(page).content.decode()
    assert "“Reminder”" in text and "unless somebody takes it on or it is over" in text
    client.post(reverse("admin:ops_alert_acknowledge", args=[alert.pk]))
    assert "Reminder" not in client.get(page).content.decode()


def test_in_a_storm_the_page_says_that_the_notice_leaves_with_others(world: World, alert: Alert) -> None:
    now, values = timezone.now(), {"rule": alert.rule, "kind": "dead_letters", "severity": "warning"}
    others = [
        Alert.objects.create(scope_key=f"remote:x{number}", since=now, opened_at=now, seen_at=now, told="open",
                             told_severity="warning", told_at=now, **values)
        for number in range(5)
    ]  # fmt: skip
    client, page = world.client("ops"), reverse("admin:ops_alert_change", args=[alert.pk])
    assert "together with other alerts" in client.get(page).content.decode()
    new = NewDelivery("several", Words("6 alerts at once", "", {}), channel_id=Channel.objects.latest("pk").pk,
                      gathered_ids=tuple(one.pk for one in [alert, *others]))  # fmt: skip
    [sent] = outbox.put([new], now=now)
    assert reverse("admin:ops_delivery_change", args=[sent.pk]) in client.get(page).content.decode()
    listed = client.get(reverse("admin:ops_delivery_changelist"), {"alert": others[0].pk})
    assert listed.context["cl"].result_count == 1
    message = client.get(reverse("admin:ops_delivery_change", args=[sent.pk])).content.decode()
    assert all(reverse("admin:ops_alert_change", args=[one.pk]) in message for one in [alert, *others])
    Alert.objects.filter(pk=others[0].pk).update(told_at=now - timedelta(minutes=11))
    assert "together with other alerts" not in client.get(page).content.decode()


def test_an_alert_is_silenced_with_a_reason_for_a_while_and_the_silence_is_ended(world: World, alert: Alert) -> None:
    Silence.objects.all().delete()
    address, client = reverse("admin:ops_alert_silence", args=[alert.pk]), world.client("ops")
    for data in ({}, {"hours": "4", "reason": ""}, {"hours": "9999", "reason": "x"}):
        assert "Nothing was silenced" in client.post(address, data, follow=True).content.decode()
    client.post(address, {"hours": "4", "reason": "Maintenance"})
    made = Silence.objects.get()
    assert (made.kind, made.remote_id, made.made_label) == ("dead_letters", alert.remote_id, "ops")
    assert "Maintenance" in client.get(reverse("admin:ops_silence_changelist")).content.decode()
    client.post(reverse("admin:ops_silence_end", args=[made.pk]))
    made.refresh_from_db()
    assert made.ends_at <= timezone.now()


def test_a_remote_is_silenced_before_its_maintenance(world: World, alert: Alert) -> None:
    address, client = reverse("admin:ops_silence_changelist"), world.client("ops")
    before = Silence.objects.count()
    for data in ({"remote": "x"}, {"remote": "987654"}, {"rule": "none"}, {"remote": "9" * 30}):
        client.post(address, {"hours": "1", "reason": "x", **data})
    assert Silence.objects.count() == before
    client.post(address, {"hours": "24", "reason": "Move", "remote": world.resource.remote_id, "rule": ""})
    made = Silence.objects.latest("id")
    assert (made.kind, made.remote_id) == ("", world.resource.remote_id)


def fields(row: AlertRule, **changes: Any) -> dict[str, Any]:
    given = {"enabled": "on", "severity": row.severity, "scope": row.scope, "threshold": row.threshold,
             "window_min": row.window_min, "minimum": row.minimum, "seen": row.updated_at.isoformat()}  # fmt: skip
    return given | changes


def test_a_rule_is_changed_with_validation_and_history(world: World, alert: Alert) -> None:
    row = AlertRule.objects.get(kind="success_rate")
    address, client = reverse("admin:ops_alertrule_change", args=[row.pk]), world.client("anna")
    for wrong in ({"threshold": "101"}, {"threshold": "x"}, {"minimum": "0"}, {"window_min": "7"}, {"scope": "moon"}):
        answer = client.post(address, fields(row, **wrong))
        assert (answer.status_code, "Nothing was saved" in answer.content.decode()) == (422, True), wrong
    assert client.post(address, fields(row, threshold="95", severity="critical")).status_code == 302
    assert client.post(address, fields(row, threshold="50")).status_code == 409, "somebody else saved meanwhile"
    row.refresh_from_db()
    assert (row.threshold, row.severity) == (95, "critical")
    history = client.get(reverse("admin:ops_alertrule_history", args=[row.pk])).content.decode()
    assert "anna" in history and "/threshold" in history


def test_a_rule_for_one_resource_is_added_and_removed_again(world: World, alert: Alert) -> None:
    client, address = world.client("anna"), reverse("admin:ops_alertrule_add")
    assert "Success rate" in client.get(address).content.decode()
    wide = AlertRule.objects.get(kind="success_rate")
    given = fields(wide, threshold="99", resource=world.resource.pk)
    assert client.post(f"{address}?kind=success_rate", given).status_code == 302
    assert client.post(f"{address}?kind=success_rate", given).status_code == 422, "there is one already"
    made = AlertRule.objects.get(resource=world.resource)
    client.post(reverse("admin:ops_alertrule_remove", args=[made.pk]))
    client.post(reverse("admin:ops_alertrule_remove", args=[wide.pk]))
    assert list(AlertRule.objects.filter(kind="success_rate")) == [wide]


def test_a_test_over_a_channel_shows_its_result_at_once(world: World, alert: Alert, hook: Hook) -> None:
    client, address = world.client("anna"), reverse("admin:ops_channel_add")
    given = {"name": "Hook", "via": "webhook", "enabled": "on", "lowest_severity": "info", "secret_url": hook.url,
             "signing_key": "a key of the tests"}  # fmt: skip
    assert client.post(address, given | {"signing_key": "short"}).status_code == 422
    assert client.post(address, given).status_code == 302
    way = Channel.objects.get(name="Hook")
    test = reverse("admin:ops_channel_test", args=[way.pk])
    assert "The channel took the test." in client.post(test, follow=True).content.decode()
    hook.statuses = [500]
    said = client.post(test, follow=True).content.decode()
    assert "The test did not arrive:" in said and "500" in said
    assert "tokensecret" not in said and "a key of the tests" not in said
    assert Delivery.objects.filter(channel=way, message="test").count() == 2
    page = client.get(reverse("admin:ops_channel_change", args=[way.pk])).content.decode()
    seen = way.updated_at.isoformat()
    assert "tokensecret" not in page and "never shown" in page
    client.post(reverse("admin:ops_channel_change", args=[way.pk]),
                given | {"secret_url": "", "signing_key": "", "name": "Hook 2", "seen": seen})  # fmt: skip
    way.refresh_from_db()
    assert (way.name, way.secret_url, way.signing_key) == ("Hook 2", hook.url, "a key of the tests")
    history = client.get(reverse("admin:ops_channel_history", args=[way.pk])).content.decode()
    assert "tokensecret" not in history and "Hook 2" in history


def test_a_delivery_is_sent_again_and_a_digest_is_private(world: World, alert: Alert) -> None:
    told = Delivery.objects.get()
    Delivery.objects.filter(pk=told.pk).update(state="failed", due_at=None, ended_at=timezone.now())
    client = world.client("ops")
    client.post(reverse("admin:ops_delivery_resend", args=[told.pk]))
    told.refresh_from_db()
    assert (told.state, told.attempts, told.ended_at) == ("pending", 0, None)
    page = client.get(reverse("admin:ops_delivery_change", args=[told.pk])).content.decode()
    assert "Written" in page and "Asked for again" in page and "by ops" in page
    assert "again " in client.get(reverse("admin:ops_delivery_changelist")).content.decode().split("Written")[-1]
    [mine] = outbox.put([NewDelivery("digest", Words("For you", "my private list", {}),
                                     person_id=world.people["olga"].pk)], now=timezone.now())  # fmt: skip
    page = client.get(reverse("admin:ops_delivery_change", args=[mine.pk])).content.decode()
    assert "my private list" not in page


def test_everybody_turns_their_own_digest_off_and_on(world: World, alert: Alert) -> None:
    client, address = world.client("olga"), reverse("admin:ops_digest")
    assert "Turn it off" in client.get(address).content.decode()
    assert not DigestChoice.objects.exists()
    assert "Turn it on" in client.post(address, {"wanted": "no"}, follow=True).content.decode()
    assert not digests.choice_of(world.people["olga"]) and digests.choice_of(world.people["otto"])
    client.post(address, {"wanted": "yes"})
    assert digests.choice_of(world.people["olga"])
    assert address in world.client("nobody").get(reverse("admin:index")).content.decode()


def test_the_list_says_that_no_worker_runs_although_none_does(world: World, alert: Alert) -> None:
    page = world.client("vera").get(reverse("admin:ops_alert_changelist")).content.decode()
    assert "No worker is running." in page


def test_the_navigation_counts_what_nobody_has_taken_on(world: World, alert: Alert) -> None:
    start = world.client("ops").get(reverse("admin:index")).content.decode()
    assert f'href="{reverse("admin:ops_alert_changelist")}"' in start
    alert_store.acknowledge(alert.pk, note="", actor=Actor("user", label="pat"), now=timezone.now())
    again = world.client("ops").get(reverse("admin:index")).content.decode()
    assert start.count("count--attention") == again.count("count--attention") + 2  # side and menu
    link = f'href="{reverse("admin:ops_alert_changelist")}"'
    assert link not in world.client("olga").get(reverse("admin:index")).content.decode()
