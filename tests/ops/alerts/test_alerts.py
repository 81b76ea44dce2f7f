"""The life of an alert: one for an incident, counted, acknowledged, resolved, back again; held back and silenced."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from reconciliation.models import Discrepancy, Run
from syncportal.ops.alerts import alert_store, evaluate, rule_store, sending, silences
from syncportal.ops.alerts.models import Alert, AlertRule, Delivery
from syncportal.ops.alerts.rule_store import Wanted
from syncportal.ops.alerts.silences import Match, SilenceInvalid
from syncportal.ops.models import Duty, Heartbeat
from syncportal.sync import operate
from syncportal.sync.events import Actor
from syncportal.sync.models import Event, SyncJob
from tests.api.world import in_conflict, stored
from tests.ops.alerts.watched import Watched

pytestmark = pytest.mark.db
PERSON = Actor("user", label="pat")


def test_an_incident_is_opened_counted_and_resolved_and_told_at_both_ends(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.evaluate()
    watched.evaluate()
    alert = watched.alert("breaker_open")
    assert (alert.state, alert.count, alert.severity, alert.remote_id) == (
        "open", 2, "critical", watched.billing.remote_id,
    )  # fmt: skip
    assert watched.messages() == [("opened", "breaker_open")]
    watched.up(watched.billing)
    watched.evaluate(minutes=40)
    assert watched.alert("breaker_open").state == "resolved"
    assert watched.messages() == [("opened", "breaker_open"), ("resolved", "breaker_open")]
    assert list(Event.objects.filter(kind__startswith="alert.").order_by("pk").values_list("kind", flat=True)) == [
        "alert.opened",
        "alert.resolved",
    ]


def test_eight_who_find_the_same_open_one_alert(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.dead_letter(watched.shop)
    watched.now += timedelta(minutes=1)
    together, failures = threading.Barrier(8), []

    def find() -> None:
        try:
            together.wait(10)
            evaluate.evaluate(watched.now)
        except Exception as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=find) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    alerts = Alert.objects.filter(kind__in=["breaker_open", "dead_letters"])
    assert sorted(alerts.values_list("kind", "count")) == [("breaker_open", 8), ("dead_letters", 8)]
    assert Event.objects.filter(kind="alert.opened", data__rule="dead_letters").count() == 1
    assert sorted(watched.messages()).count(("opened", "dead_letters")) == 1
    assert watched.messages().count(("opened", "breaker_open")) == 1


def test_the_number_of_queries_does_not_grow_with_what_is_wrong(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.dead_letter(watched.shop)
    watched.evaluate()
    with CaptureQueriesContext(
        connection,
    ) as few:
        watched.evaluate()
    for number in range(12):
        other = Watched(watched.now)
        other.down(other.billing)
        other.dead_letter(other.shop, str(number))
        other.attempts(other.shop, good=5, bad=20)
    with CaptureQueriesContext(connection) as many:
        watched.evaluate()
    with CaptureQueriesContext(connection) as after:
        watched.evaluate()
    assert Alert.objects.count() > 30
    assert len(after) <= len(few)
    assert len(many) <= len(few) + 12  # bulk statements of what opens and is told


def test_acknowledged_it_stays_until_it_is_over_and_one_person_has_it(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.evaluate()
    alert = watched.alert("breaker_open")
    assert alert_store.acknowledge(alert.pk, note="On it", actor=PERSON, now=watched.now)
    assert not alert_store.acknowledge(alert.pk, note="Me too", actor=Actor("user", label="kim"), now=watched.now)
    watched.evaluate()
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_label, alert.note, alert.count) == ("acknowledged", "pat", "On it", 2)
    event = Event.objects.get(kind="alert.acknowledged")
    assert (event.actor_label, event.data["why"]) == ("pat", "On it")
    watched.up(watched.billing)
    watched.evaluate()
    alert.refresh_from_db()
    assert (alert.state, alert.acknowledged_label) == ("resolved", "pat")
    assert not alert_store.acknowledge(alert.pk, note="", actor=PERSON, now=watched.now)


def test_back_within_a_day_it_is_the_same_alert_and_says_so(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.evaluate()
    first = watched.alert("breaker_open")
    alert_store.acknowledge(first.pk, note="On it", actor=PERSON, now=watched.now)
    watched.up(watched.billing)
    watched.evaluate(minutes=31)
    watched.down(watched.billing)
    watched.evaluate(minutes=31)
    again = watched.alert("breaker_open")
    assert (again.pk, again.state, again.reopenings, again.acknowledged_label) == (first.pk, "open", 1, "")
    assert [message for message, _ in watched.messages()] == ["opened", "resolved", "regression"]
    told = Delivery.objects.get(message="regression")
    assert "Came back: Critical" in told.subject and "came back" in told.body
    assert Event.objects.filter(kind="alert.opened", data__regression=True).count() == 1
    watched.up(watched.billing)
    watched.evaluate(minutes=31)
    watched.down(watched.billing)
    watched.evaluate(minutes=25 * 60)
    assert watched.alert("breaker_open").pk != first.pk


def test_what_nobody_takes_on_is_reminded_of_in_one_message(watched: Watched) -> None:
    watched.down(watched.billing, error="<b>first\nsecond")
    watched.down(watched.shop)
    for number in range(3):
        watched.dead_letter(watched.billing, f"A{number}")
    watched.evaluate()
    assert Delivery.objects.count() == 2, "the dead letters follow from the remote that is down"
    for _ in range(3):
        watched.evaluate(minutes=60)
    assert Delivery.objects.count() == 2
    watched.evaluate(minutes=61)
    reminder = Delivery.objects.get(message="reminder")
    assert reminder.subject == "Reminder: 2 alerts are open and nobody has taken them on" and reminder.alert is None
    assert "<b>first second" in reminder.body and str(watched.shop.remote) in reminder.body
    assert [one["rule"] for one in reminder.payload["alerts"]] == ["breaker_open"] * 2
    watched.evaluate(minutes=31)
    assert Delivery.objects.count() == 3
    first, other = Alert.objects.filter(kind="breaker_open").order_by("pk")
    alert_store.acknowledge(first.pk, note="", actor=PERSON, now=watched.now)
    watched.evaluate(minutes=240)
    last = Delivery.objects.latest("id")
    assert (last.message, last.alert_id) == ("reminder", other.pk)
    assert last.subject.startswith("Reminder: Critical: Remote is down")
    alert_store.acknowledge(other.pk, note="", actor=PERSON, now=watched.now)
    watched.evaluate(minutes=24 * 60)
    assert Delivery.objects.count() == 4
    watched.up(watched.billing)
    watched.up(watched.shop)
    watched.evaluate()
    assert Delivery.objects.filter(message="resolved").count() == 2


def test_an_alert_that_flaps_is_told_of_once_in_half_an_hour(watched: Watched) -> None:
    for _ in range(30):
        watched.down(watched.billing)
        watched.evaluate(minutes=1)
        watched.up(watched.billing)
        watched.evaluate(minutes=1)
    times = list(Delivery.objects.order_by("pk").values_list("created_at", flat=True))
    assert 2 <= len(times) <= 3
    assert all(later - earlier >= timedelta(minutes=30) for earlier, later in zip(times, times[1:], strict=False))
    assert watched.alert("breaker_open").reopenings == 29
    watched.evaluate(minutes=31)
    assert watched.messages()[-1] == ("resolved", "breaker_open")
    watched.evaluate(minutes=31)
    assert watched.messages()[-1] == ("resolved", "breaker_open")
    assert watched.alert("breaker_open").told == "resolved"


def test_what_cannot_be_judged_neither_opens_nor_ends_but_not_for_ever(watched: Watched) -> None:
    watched.attempts(watched.billing, bad=20)
    watched.evaluate()
    assert watched.alert("success_rate").state == "open"
    watched.evaluate(minutes=60)
    assert watched.alert("success_rate").state == "open"
    watched.evaluate(minutes=24 * 60)
    assert watched.alert("success_rate").state == "resolved"


def test_a_rule_that_is_switched_off_ends_its_alerts_and_opens_none(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.evaluate()
    AlertRule.objects.filter(kind="breaker_open").update(enabled=False)
    watched.evaluate()
    watched.evaluate()
    assert list(Alert.objects.values_list("state", flat=True)) == ["resolved"]


def test_each_dead_letter_is_told_once_even_if_it_was_requeued_at_once(watched: Watched) -> None:
    record = watched.dead_letter(watched.billing, "A", detail="first")
    SyncJob.objects.filter(pk=record.pk).update(status="SYNCED")
    watched.evaluate()
    assert "first" in Delivery.objects.get().body
    watched.evaluate()
    assert watched.alert("dead_letters").state == "resolved"
    watched.dead_letter(watched.billing, "B", detail="second")
    watched.dead_letter(watched.billing, "C", detail="third")
    watched.evaluate()
    assert Delivery.objects.count() == 1
    watched.evaluate(minutes=30)
    last = Delivery.objects.latest("id")
    assert "second" in last.body and "third" in last.body and "first" not in last.body
    watched.evaluate(minutes=31)
    assert Delivery.objects.count() == 2


def test_with_nobody_to_tell_the_news_wait(watched: Watched, settings: Any) -> None:
    settings.OPERATIONS_EMAIL = []
    watched.dead_letter(watched.billing, detail="the one")
    watched.evaluate()
    assert not Delivery.objects.exists()
    settings.OPERATIONS_EMAIL = ["ops@example.org"]
    watched.evaluate()
    assert "the one" in Delivery.objects.get().body


def test_a_flood_is_cut_short(watched: Watched) -> None:
    for number in range(60):
        watched.dead_letter(watched.billing, f"R{number}", detail="x" * 5000)
    watched.evaluate()
    [told] = Delivery.objects.all()
    assert "... and 10 more." in told.body
    assert len(told.body) < 30_000


def test_a_refused_credential_is_one_alert_and_a_pause_by_hand_none(watched: Watched) -> None:
    watched.refuse(watched.billing, detail="401 Unauthorized")
    watched.evaluate()
    watched.evaluate()
    assert watched.messages() == [("opened", "credential_refused")]
    assert "401 Unauthorized" in Delivery.objects.get().body
    operate.pause(watched.shop.remote, detail="maintenance", actor=PERSON)
    watched.evaluate()
    assert Alert.objects.count() == 1


def test_a_remote_that_is_down_holds_back_the_alerts_of_its_records(watched: Watched) -> None:
    watched.attempts(watched.billing, good=10, bad=20)
    watched.attempts(watched.shop, good=10, bad=20)
    watched.down(watched.billing)
    watched.evaluate()
    held = Alert.objects.get(kind="success_rate", resource=watched.billing)
    assert (held.state, held.held_back.startswith("Remote is down")) == ("open", True)
    assert sorted(watched.messages()) == [("opened", "breaker_open"), ("opened", "success_rate")]
    told = Delivery.objects.get(alert__kind="success_rate")
    assert told.alert.resource_id == watched.shop.pk
    watched.up(watched.billing)
    watched.evaluate(minutes=2)
    held.refresh_from_db()
    assert held.held_back, "the window still looks at the time of the outage"


def test_what_still_stands_after_the_remote_is_back_is_told(watched: Watched) -> None:
    watched.dead_letter(watched.billing)
    watched.down(watched.billing)
    watched.evaluate()
    assert watched.messages() == [("opened", "breaker_open")]
    watched.up(watched.billing)
    watched.evaluate()
    watched.evaluate(minutes=6)
    assert ("opened", "dead_letters") in watched.messages()


def test_silenced_it_is_listed_but_not_told_until_the_silence_ends(watched: Watched) -> None:
    match = Match("breaker_open", remote_id=watched.billing.remote_id)
    until = watched.now + timedelta(hours=2)
    made = silences.make(match, reason="Maintenance", ends_at=until, actor=PERSON, now=watched.now)
    watched.down(watched.billing)
    watched.down(watched.shop)
    watched.evaluate()
    told = Delivery.objects.get()
    assert told.alert.remote_id == watched.shop.remote_id
    quiet = Alert.objects.get(remote=watched.billing.remote_id)
    assert "Maintenance" in quiet.held_back
    assert silences.end(made.pk, actor=PERSON, now=watched.now)
    assert not silences.end(made.pk, actor=PERSON, now=watched.now)
    watched.evaluate()
    assert Delivery.objects.count() == 2
    kinds = Event.objects.filter(kind__contains="silence").order_by("pk").values_list("kind", "actor_label")
    assert list(kinds) == [("alert.silenced", "pat"), ("alert.unsilenced", "pat")]


@pytest.mark.parametrize(("reason", "hours"), [("", 1), ("  ", 1), ("x", 0), ("x", -1), ("x", 24 * 31)])
def test_a_silence_needs_a_reason_and_an_end(watched: Watched, reason: str, hours: float) -> None:
    until = watched.now + timedelta(hours=hours)
    with pytest.raises(SilenceInvalid):
        silences.make(Match(), reason=reason, ends_at=until, actor=PERSON, now=watched.now)


def test_without_a_worker_the_alert_stands_for_those_that_need_one(watched: Watched) -> None:
    record = stored(watched.billing)
    SyncJob.objects.filter(pk=record.pk).update(status="PENDING", due_at=watched.now - timedelta(hours=1))
    Duty.objects.create(name="sweep", every_s=60, last_started_at=watched.now - timedelta(hours=1))
    Heartbeat.objects.all().delete()
    evaluate.evaluate(watched.now)
    assert Alert.objects.filter(state="open").count() == 3
    assert watched.messages() == [("opened", "no_worker")]
    watched.evaluate(minutes=6)
    assert watched.alert("no_worker").state == "resolved"


def test_conflicts_that_were_handed_to_operations_alert_them(watched: Watched) -> None:
    in_conflict(stored(watched.billing, "C"))
    handed = in_conflict(stored(watched.shop, "C"))
    operate.escalate([handed.pk], actor=PERSON)
    watched.evaluate()
    assert list(Alert.objects.values_list("kind", "resource")) == [("conflicts_waiting", watched.shop.pk)]


def test_the_hourly_comparison_touches_no_other_alerts(watched: Watched) -> None:
    watched.down(watched.billing)
    watched.evaluate()
    assert evaluate.hourly(watched.now).startswith("0 opened, 0 came back, 0 resolved")
    assert watched.alert("breaker_open").state == "open"


def test_the_hourly_comparison_learns_from_the_log(watched: Watched) -> None:
    now = watched.now
    for back in range(2, 40):
        watched.now = now - timedelta(hours=back)
        watched.attempts(watched.billing, good=20)
    watched.now = now
    watched.attempts(watched.billing, good=10, bad=20)
    assert evaluate.hourly(now + timedelta(minutes=1)).startswith("1 opened")
    alert = watched.alert("error_spike")
    assert alert.summary.startswith("20 of 30 attempts failed in the last hour")
    watched.evaluate()
    assert watched.alert("error_spike").state == "open"


def test_the_duty_sends_what_it_found(watched: Watched) -> None:
    watched.down(watched.billing)
    said = evaluate.duty(timezone.now())
    assert "1 notices; 1 sent, 0 failed" in said or "2 notices; 2 sent" in said
    assert any("Remote is down" in message.subject for message in mail.outbox)
    assert sending.send_due().sent == 0


def test_a_rule_for_one_remote_exempts_it(watched: Watched) -> None:
    wanted = Wanted(kind="breaker_open", enabled=False, severity="critical", scope="remote", threshold=0,
                    remote_id=watched.billing.remote_id)  # fmt: skip
    rule_store.store(None, wanted, actor=None)
    watched.down(watched.billing)
    watched.down(watched.shop)
    watched.evaluate()
    assert list(Alert.objects.values_list("remote", flat=True)) == [watched.shop.remote_id]


def test_a_run_whose_brake_held_alerts_until_a_complete_run_ends_well(watched: Watched) -> None:
    times = {"started_at": watched.now, "progress_at": watched.now, "resource": watched.shop}
    Run.objects.create(state="finished", **times)
    Run.objects.create(state="braked", **times)
    Run.objects.create(state="finished", scope="sample", **times)
    found = {"kind": "data_mismatch", "cause": "changed_remotely", "fingerprint": "0"}
    for state in ("open", "fixed"):
        Discrepancy.objects.create(
            resource=watched.shop, external_id=state, state=state, found_at=watched.now, seen_at=watched.now, **found
        )
    watched.evaluate()
    assert sorted(Alert.objects.values_list("kind", "summary")) == [
        ("discrepancies", "1 open discrepancy"),
        ("reconciliation_braked", "1 resource is no longer repaired"),
    ]
    Run.objects.create(state="finished", **times)
    watched.evaluate()
    assert watched.alert("reconciliation_braked").state == "resolved"
