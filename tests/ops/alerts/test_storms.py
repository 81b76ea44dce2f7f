"""Many different alerts in a short time: few messages, every alert told once, what is critical at once."""

from collections import Counter
from typing import Any

import pytest
from django.core import mail

from syncportal.ops.alerts import channels, outbox, sending, wording
from syncportal.ops.alerts.channels import Wanted
from syncportal.ops.alerts.models import Alert, Delivery
from syncportal.remote.models import Resource
from tests.factories import make_remote, make_resource
from tests.ops.alerts.watched import Watched

pytestmark = pytest.mark.db


def another() -> Resource:
    return make_resource(make_remote("http://127.0.0.1:9/api"))


def down(watched: Watched, number: int) -> None:
    for _ in range(number):
        watched.down(another())


def named(delivery: Delivery) -> list[int]:
    """Return the alerts that a message is about."""
    many = delivery.gathered.order_by("pk").values_list("pk", flat=True)
    return [delivery.alert_id] if delivery.alert_id else list(many)


def test_a_storm_is_one_message_that_counts_and_names_the_worst_first(watched: Watched) -> None:
    for _ in range(30):
        watched.dead_letter(another())
    down(watched, 2)
    watched.down(another(), error="<b>No\nanswer</b>")
    assert watched.evaluate().notices == 33
    [told] = Delivery.objects.all()
    assert (told.message, told.subject) == ("several", "33 alerts at once: 3 critical, 30 warnings")
    assert sorted(named(told)) == list(Alert.objects.order_by("pk").values_list("pk", flat=True))
    listed = [line for line in told.body.splitlines() if line.startswith("- ")]
    assert len(listed) == wording.GATHERED
    assert all(line.startswith("- Critical: Remote is down: ") for line in listed[:3])
    assert all(line.startswith("- Warning: Dead letters: ") for line in listed[3:])
    assert "... and 13 more." in told.body and "<b>No answer</b>" in told.body
    for alert in Alert.objects.filter(severity="critical"):
        assert wording.link("admin:ops_alert_change", alert.pk) in told.body
    assert set(Alert.objects.values_list("told", flat=True)) == {"open"}
    assert sending.send_due(clock=lambda: watched.now).sent == 1
    assert mail.outbox[-1].subject == "[SyncPortal] 33 alerts at once: 3 critical, 30 warnings"
    watched.evaluate()
    assert Delivery.objects.count() == 1


def test_five_at_once_are_five_messages(watched: Watched) -> None:
    down(watched, 5)
    watched.evaluate()
    assert watched.messages() == [("opened", "breaker_open")] * 5


def test_every_critical_one_is_named_however_many_they_are(watched: Watched) -> None:
    down(watched, 45)
    watched.dead_letter(watched.shop)
    watched.evaluate()
    messages = list(Delivery.objects.order_by("pk"))
    assert [len(named(one)) for one in messages] == [20, 20, 6]
    text = "\n".join(one.body for one in messages)
    for alert in Alert.objects.all():
        assert wording.link("admin:ops_alert_change", alert.pk) in text


def test_alerts_that_trickle_in_leave_together_every_ten_minutes(watched: Watched) -> None:
    for _ in range(40):
        watched.dead_letter(another())
        watched.evaluate()
    for _ in range(10):
        watched.evaluate()
    messages = list(Delivery.objects.order_by("pk"))
    assert [one.message for one in messages[:5]] == ["opened"] * 5
    assert len(messages) == 9 and {one.message for one in messages[5:]} == {"several"}
    assert Counter(pk for one in messages for pk in named(one)) == dict.fromkeys(
        Alert.objects.values_list("pk", flat=True), 1
    )


def test_what_is_critical_does_not_wait_for_the_others(watched: Watched) -> None:
    for _ in range(10):
        watched.dead_letter(another())
    watched.evaluate()
    watched.dead_letter(watched.billing)
    watched.down(watched.shop)
    watched.evaluate()
    assert watched.messages() == [("opened", "breaker_open")]
    watched.evaluate(minutes=10)
    assert watched.messages() == [("opened", "breaker_open"), ("opened", "dead_letters")]


def test_critical_ones_that_keep_coming_keep_no_other_back(watched: Watched) -> None:
    down(watched, 5)
    watched.evaluate()
    watched.dead_letter(watched.billing)
    for _ in range(3):
        down(watched, 5)
        watched.evaluate(minutes=5)
    assert watched.alert("dead_letters").told == "open"


def test_the_end_of_a_storm_is_one_message_too(watched: Watched) -> None:
    resources = [another() for _ in range(8)]
    for resource in resources:
        watched.down(resource)
    watched.evaluate()
    for resource in resources[:7]:
        watched.up(resource)
    watched.evaluate(minutes=31)
    last = Delivery.objects.latest("pk")
    assert (last.message, last.subject) == ("several", "7 alerts at once: 7 over")
    assert last.body.count("- Resolved: Critical: Remote is down") == 7
    assert set(Alert.objects.exclude(remote=resources[7].remote_id).values_list("told", flat=True)) == {"resolved"}


def test_each_channel_gets_what_it_takes_and_a_webhook_all_of_it(watched: Watched) -> None:
    hook = {"via": "webhook", "secret_url": "http://127.0.0.1:9/hook", "signing_key": "a key of the tests"}
    first = channels.store(None, Wanted(name="Programs", **hook), actor=None)
    second = channels.store(None, Wanted(name="Nights", lowest_severity="critical", **hook), actor=None)
    for _ in range(25):
        watched.dead_letter(another())
    watched.down(watched.billing)
    watched.evaluate()
    [every], [worst] = Delivery.objects.filter(channel=first), Delivery.objects.filter(channel=second)
    assert (worst.message, worst.alert.kind) == ("opened", "breaker_open"), "one alone is told of alone"
    payload = every.payload
    assert (payload["event"], payload["count"], len(payload["alerts"])) == ("alert.several", 26, 26)
    assert [one["severity"] for one in payload["alerts"]] == ["critical"] + ["warning"] * 25
    assert {(one["message"], one["state"]) for one in payload["alerts"]} == {("opened", "open")}


def test_a_storm_with_nobody_to_tell_is_told_later(watched: Watched, settings: Any) -> None:
    settings.OPERATIONS_EMAIL = []
    down(watched, 8)
    watched.evaluate()
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    watched.evaluate()
    assert len(named(Delivery.objects.get())) == 8


def test_a_message_about_many_is_found_from_each_of_its_alerts(watched: Watched) -> None:
    down(watched, 8)
    watched.evaluate()
    told, other = Delivery.objects.get(), Alert.objects.latest("pk")
    for alert in Alert.objects.all():
        assert list(Delivery.objects.filter(outbox.about(alert.pk))) == [told]
    other.delete()
    assert len(named(told)) == 7


def test_what_is_removed_is_counted_without_what_ties_it_together(watched: Watched) -> None:
    down(watched, 8)
    watched.evaluate()
    Delivery.objects.update(state="sent", due_at=None, ended_at=watched.now)
    assert outbox.prune(watched.now + outbox.KEPT_FOR * 2) == 1
