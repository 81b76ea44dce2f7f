"""The dashboard: numbers lead to their rows, banners say what is wrong, the piece that moves is the page's."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from syncportal.ops import charts, heartbeat
from syncportal.ops.alerts import rule_store
from syncportal.ops.alerts.models import Alert, AlertRule
from syncportal.ops.heartbeat import Beat
from syncportal.ops.models import WorkerState
from syncportal.ops.screens import dashboard
from syncportal.remote.models import Gate, Resource
from syncportal.sync.states import FAIL, Status
from tests.factories import make_remote, make_resource
from tests.ops.test_metrics import a_record, an_attempt, happen

pytestmark = pytest.mark.django_db
HOME = "admin:index"


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("olga", password="x"))
    return client


@pytest.fixture
def resources() -> list[Resource]:
    first, second = make_remote("http://127.0.0.1:1/a"), make_remote("http://127.0.0.1:1/b")
    Gate.objects.bulk_create([Gate(remote=first), Gate(remote=second)])
    return [make_resource(first), make_resource(second)]


def fill(resources: list[Resource]) -> None:
    now = timezone.now()
    for number, status in enumerate(Status):
        waits = status in (Status.PENDING, Status.RETRY_PENDING)
        lease = now if status == Status.PROCESSING else None
        for _ in range(number + 1):
            row = a_record(
                resources[number % 2], status=status, due_at=now - timedelta(seconds=90) if waits else None,
                lease_until=lease,
            )  # fmt: skip
            happen(an_attempt(row, now - timedelta(minutes=7 * number), "complete"))
            happen(an_attempt(row, now - timedelta(hours=2 * number), FAIL.name, f"http_42{number % 7}"))
            happen(an_attempt(row, now - timedelta(hours=3 * number), "retry_later", "http_503"))


def numbers_with_links(text: str) -> list[tuple[int, str]]:
    """Return every number of the board that is a link: the tiles', the legends', the errors'."""
    found = re.findall(r'<a class="tile[^"]*" href="([^"]+)">.*?tile__value">([\d,]+)</span>', text)
    found += re.findall(r'<a href="([^"]+)"(?: aria-label="[^"]*")?>([\d,]+)</a>', text)
    return [(int(number.replace(",", "")), unescape(url)) for url, number in found]


@pytest.mark.parametrize(
    "query", ["", "?window=1h", "?window=7d", "?window=30d&remote={remote}", "?resource={resource}"]
)
def test_every_number_leads_to_exactly_the_rows_that_it_counts(
    operator: Client, resources: list[Resource], query: str
) -> None:
    fill(resources)
    query = query.format(remote=resources[0].remote.slug, resource=resources[1].slug)
    linked = numbers_with_links(operator.get(reverse(HOME) + query).content.decode())
    assert len(linked) >= 18
    for number, url in linked:
        answer = operator.get(url)
        assert answer.context["cl"].paginator.count == number, url


def test_a_script_gets_the_piece_that_moves_and_nothing_else(operator: Client, resources: list[Resource]) -> None:
    fill(resources)
    whole = operator.get(reverse(HOME))
    piece = operator.get(reverse(HOME), headers={"HX-Request": "true"})
    assert "<html" not in piece.content.decode()
    assert piece.content.decode().strip().startswith('<div id="board"')
    assert "HX-Request" in whole["Vary"] and "no-store" in whole["Cache-Control"]
    ids = re.compile(r'\sid="(d-[a-z]+)"')
    assert ids.findall(piece.content.decode()) == ids.findall(whole.content.decode())


def test_no_worker_is_told_by_the_time_of_the_database(operator: Client, resources: list[Resource]) -> None:
    now = timezone.now()
    assert "No worker is running." in operator.get(reverse(HOME)).content.decode()
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=now)
    assert "No worker is running." not in operator.get(reverse(HOME)).content.decode()
    heartbeat.beat(Beat("host", 1, WorkerState.RUNNING), now=now - timedelta(seconds=31))
    text = operator.get(reverse(HOME)).content.decode()
    assert "No worker is running." in text and "The last one was seen" in text


def test_an_open_breaker_says_since_when_what_waits_and_what_happens_next(
    operator: Client, resources: list[Resource]
) -> None:
    fill(resources)
    now = timezone.now()
    Gate.objects.filter(remote=resources[0].remote).update(
        breaker="open", opened_at=now - timedelta(minutes=4), open_until=now + timedelta(seconds=30),
        last_error="<script>503</script>",
    )  # fmt: skip
    text = operator.get(reverse(HOME)).content.decode()
    assert "does not answer" in text and "4 min" in text and "It is asked again by itself" in text
    assert "&lt;script&gt;503" in text and "<script>503" not in text
    banner = text.split('id="b-remote-')[1].split('<div class="banner')[0]
    waits, remote_page = re.findall(r'<a href="([^"]+)"', banner)[:2]
    assert operator.get(unescape(waits)).context["cl"].paginator.count == int(
        re.findall(r">(\d+) records? wait", banner)[0]
    )
    assert operator.get(remote_page).context["remote"] == resources[0].remote
    Gate.objects.update(breaker="closed", open_until=None)
    assert "does not answer" not in operator.get(reverse(HOME)).content.decode()


def test_alerts_that_a_remote_explains_stand_below_it_and_are_not_counted_twice(
    operator: Client, resources: list[Resource]
) -> None:
    now, remote = timezone.now(), resources[0].remote
    rule_store.ensure()
    times = {"since": now, "opened_at": now, "seen_at": now, "state": "open", "remote": remote}
    for kind, severity, held_back in (("breaker_open", "critical", ""), ("success_rate", "warning", "Remote is down")):
        rule = AlertRule.objects.get(kind=kind)
        Alert.objects.create(
            rule=rule, kind=kind, scope_key=f"remote:{remote.pk}", scope_name=str(remote), severity=severity,
            summary=f"<b>{kind}", held_back=held_back, **times,
        )  # fmt: skip
    Gate.objects.filter(remote=remote).update(breaker="open", opened_at=now, open_until=now)
    text = operator.get(reverse(HOME)).content.decode()
    assert text.index('id="b-remote-') < text.index('id="b-alerts"')
    assert 'class="banner banner--warning" role="status" id="b-alerts"' in text
    assert "1 more alert is open" in text and "No notices: Remote is down" in text
    assert "&lt;b&gt;success_rate" in text and "&lt;b&gt;breaker_open" not in text
    Gate.objects.update(breaker="closed")
    text = operator.get(reverse(HOME)).content.decode()
    assert "2 alerts are open" in text
    assert 'class="banner banner--error" role="status" id="b-alerts"' in text
    assert text.index("&lt;b&gt;breaker_open") < text.index("&lt;b&gt;success_rate")


def test_the_banner_counts_the_alerts_that_it_does_not_list_and_lists_the_worst(
    operator: Client, resources: list[Resource]
) -> None:
    now = timezone.now()
    rule_store.ensure()
    rule = AlertRule.objects.get(kind="discrepancies")

    def an_alert(number: int, severity: str, held_back: str = "") -> None:
        Alert.objects.create(
            rule=rule, kind=rule.kind, scope_key=f"resource:{number}", scope_name=f"place {number}", severity=severity,
            summary="x", held_back=held_back, since=now, opened_at=now, seen_at=now,
        )  # fmt: skip

    an_alert(0, "critical")
    an_alert(1, "info")
    for number in range(2, dashboard.LISTED_ALERTS + 1):
        an_alert(number, "warning")
    an_alert(number + 1, "critical", held_back="Remote is down")
    text = operator.get(reverse(HOME)).content.decode()
    banner = text.split('id="b-alerts"')[1].split('<div class="banner')[0]
    assert "12 alerts are open" in text and "2 further alerts are not listed here" in banner
    listed = [int(number) for number in re.findall(r": place (\d+)</a>", banner)]
    assert listed == [0, *range(dashboard.LISTED_ALERTS, 1, -1)]
    [every] = re.findall(r'<a href="([^"]+)">Show all open alerts', banner)
    assert operator.get(unescape(every)).context["cl"].paginator.count == 12
    summary = operator.get("/api/v1/metrics/summary/").json()
    assert summary["openAlerts"] == len(summary["alerts"]) == 12


def test_an_unknown_scope_is_a_page_that_does_not_exist(operator: Client, resources: list[Resource]) -> None:
    assert operator.get(reverse(HOME) + "?remote=nowhere").status_code == 404
    assert operator.get(reverse(HOME) + "?window=nonsense").status_code == 200


def test_a_scale_begins_at_zero_and_ends_above_the_highest_value() -> None:
    for highest in (0.2, 1, 7, 99, 100, 101, 480, 12_345, 10**7):
        ticks = charts.scale(highest)
        assert ticks[-1].value == 0 and ticks[-1].y == 100
        assert highest <= ticks[0].value <= max(4, 2.6 * highest)


def test_a_line_breaks_where_nothing_happened() -> None:
    assert charts.lines([1, None, 2, 2], top=4) == ("M12.500,75.000h0", "M62.500,50.000L87.500,50.000")
    assert charts.lines([None], top=4) == () and charts.dots([None], top=4) == ""
