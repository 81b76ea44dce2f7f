"""The pages of error groups: one row a cause, its trend and sample, the records it affects, and what can be done."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from syncportal.bulk import work
from syncportal.bulk.models import BulkOperation
from syncportal.remote import limits
from syncportal.remote.models import Gate
from syncportal.sync.error_models import ErrorGroup
from syncportal.sync.models import Event, SyncJob
from tests.admin.conftest import HOSTILE, World
from tests.factories import drain, edit

LIST = "/admin/sync/errorgroup/"


def refuse(world: World, *numbers: int, status: int = 422) -> None:
    for number in numbers:
        fault = {"kind": "status", "settings": {"status": status}, "object_id": f"ACC-000{number}", "phase": "write"}
        world.master.faults.add_json(fault)


@pytest.fixture
def failed(world: World) -> World:
    """Let the remote refuse three records, one of them Olga's, and fail at a fourth."""
    refuse(world, 1, 3, 4)
    refuse(world, 5, status=503)
    for record in world.records:
        edit(record, city="Lund")
    drain()
    return world


def group(code: str = "http_422") -> ErrorGroup:
    return ErrorGroup.objects.get(code=code)


def page(code: str = "http_422") -> str:
    return reverse("admin:sync_errorgroup_change", args=[group(code).pk])


def do(verb: str, code: str = "http_422") -> str:
    return reverse("admin:sync_errorgroup_do", args=[group(code).pk, verb])


def text_of(response: Any) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def rows(response: Any) -> dict[str, int]:
    return {row.code: row.affected for row in response.context["cl"].result_list}


def test_one_row_a_cause_with_links_to_exactly_its_records(failed: World) -> None:
    client = failed.client("ops")
    answer = client.get(LIST)
    assert rows(answer) == {"http_422": 3, "http_503": 1}
    assert "3 failed attempts, at most 3 in an hour" in answer.content.decode()
    listed = client.get(f"/admin/sync/record/?error_group={group().pk}").context["cl"].result_list
    assert {row.external_id for row in listed} == {"ACC-0001", "ACC-0003", "ACC-0004"}
    log = client.get(f"/admin/sync/synclog/?error_group={group().pk}").context["cl"].result_list
    assert len(log) == 3
    shown = client.get(page())
    assert "3 records fail for this cause" in text_of(shown)
    assert shown.context["trend_total"] == 3 and [part.count for part in shown.context["by_status"]] == [3]
    assert len(shown.context["rows"]) == 3 and shown.context["sample"].http_status == 422


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?class=rejected", {"http_422": 3}),
        ("?code=http_503", {"http_503": 1}),
        ("?state=over", {}),
        ("?state=all&q=422", {"http_422": 3}),
        ("?resource=nothing", {}),
        ("?state=all&class=%00", {}),
    ],
)
def test_filters(failed: World, query: str, found: dict[str, int]) -> None:
    answer = failed.client("ops").get(LIST + query)
    assert answer.status_code == 200 and rows(answer) == found


def test_filters_count_what_they_would_show(failed: World) -> None:
    answer = failed.client("ops").get(f"{LIST}?resource={failed.resource.slug}")
    assert rows(answer) == {"http_422": 3, "http_503": 1}
    text = text_of(answer)
    for words in ("Open (2)", "Over (0)", "Rejected (1)", "Server fault (1)", f"{failed.resource} (2)"):
        assert words in text, words


def test_owners_see_their_own_numbers_only(failed: World) -> None:
    owner = failed.client("olga")
    answer = owner.get(LIST)
    assert rows(answer) == {"http_422": 1} and "Over" not in text_of(answer)
    shown = owner.get(page())
    text = text_of(shown)
    assert "1 record fails for this cause" in text and "Operations snooze, ignore and annotate" in text
    assert [job.record.external_id for job, _ in shown.context["rows"]] == ["ACC-0001"]
    assert shown.context["group"].occurrences == 1 and shown.context["trend_total"] == 1
    assert shown.context["sample"].record.external_id == "ACC-0001"
    assert owner.get(page("http_503")).status_code == 404
    listed = owner.get(f"/admin/sync/record/?error_group={group('http_503').pk}")
    assert not listed.context["cl"].result_list and str(group("http_503")) not in listed.content.decode()
    assert failed.client("otto").get(page()).status_code == 404
    assert failed.client("nobody").get(LIST).status_code == 403
    assert owner.post(do("ignore"), {"why": "x"}).status_code == 403
    assert failed.client("vera").post(do("note"), {"note": "x"}).status_code == 403


def test_the_navigation_counts_what_nobody_looked_away_from(failed: World) -> None:
    def badge(who: str) -> int:
        sections = failed.client(who).get("/admin/sync/record/").context["navigation"]
        return next(item.count for section in sections for item in section.items if item.label == "Error groups")

    assert (badge("ops"), badge("olga"), badge("otto")) == (2, 1, 0)
    failed.client("ops").post(do("snooze"), {"for": "1h"})
    assert (badge("ops"), badge("olga")) == (1, 0)


def test_snooze_ignore_note_and_watch_again(failed: World) -> None:
    client = failed.client("ops")
    until = (timezone.localtime() + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    assert client.post(do("snooze"), {"for": "1h", "until": until}).status_code == 302
    assert group().snoozed_until > timezone.now() + timedelta(days=1)
    assert "http_422" not in rows(client.get(LIST)) and rows(client.get(f"{LIST}?state=snoozed")) == {"http_422": 3}
    assert client.post(do("ignore"), {"why": "Known; mended on Monday."}).status_code == 302
    assert rows(client.get(f"{LIST}?state=ignored")) == {"http_422": 3}
    assert client.post(do("note"), {"note": f"Ask the remote's team.\r\n{HOSTILE[0]}"}).status_code == 302
    text = client.get(page()).content.decode()
    assert HOSTILE[0] not in text and "Ask the remote&#x27;s team." in text and "Known; mended on Monday." in text
    assert client.post(do("watch")).status_code == 302
    assert rows(client.get(LIST)) == {"http_422": 3, "http_503": 1}
    kinds = Event.objects.filter(kind__startswith="error_group.").order_by("pk").values_list("kind", "actor__username")
    assert list(kinds) == [
        ("error_group.snoozed", "ops"), ("error_group.ignored", "ops"), ("error_group.noted", "ops"),
        ("error_group.reopened", "ops"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("verb", "given", "words"),
    [
        ("snooze", {"until": "tomorrow"}, "That is no time"),
        ("snooze", {"until": "2020-01-01T08:00"}, "Choose a time in the next 90 days"),
        ("snooze", {"for": "century"}, "Choose for how long"),
        ("ignore", {"why": "  "}, "Say why"),
        ("note", {"note": "x" * 4_001}, "at most 4,000"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_input_stays(failed: World, verb: str, given: Any, words: str) -> None:
    answer = failed.client("ops").post(do(verb), given)
    assert answer.status_code == 422 and words in text_of(answer)
    assert next(iter(given.values())).strip()[:20] in answer.content.decode() or "for" in given
    assert not Event.objects.filter(kind__startswith="error_group.").exists()


def test_retrying_a_group_goes_in_steps_over_frozen_records(failed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    client = failed.client("ops")
    answer = client.post(reverse("admin:sync_errorgroup_retry", args=[group().pk]), follow=True)
    text = text_of(answer)
    assert "In steps: first 1, then 10" in text and "Requeue (3)" in text
    refuse(failed, 6)  # one more joins the group after the preview
    edit(failed.records[5], city="Umeå")
    drain()
    operation = BulkOperation.objects.get()
    assert operation.ramp and operation.total == 3
    failed.master.faults.clear()
    client.post(reverse("admin:bulk_bulkoperation_start", args=[operation.pk]))
    for _ in range(6):
        drain()
        work.run(operation.pk, seconds=5)
    operation.refresh_from_db()
    assert (operation.state, operation.done) == ("done", 3)
    assert rows(client.get(LIST)) == {"http_422": 1, "http_503": 1}
    assert SyncJob.objects.get(pk=failed.records[5].pk).status == "ERROR"


def test_a_retry_says_what_keeps_its_records_from_ending(failed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    failed.master.faults.clear()
    remote, client = failed.resource.remote, failed.client("ops")
    limits.pause(remote.pk, reason="by_hand", detail="<b>moves house", now=timezone.now())
    waits = f"{remote} is paused (&lt;b&gt;moves house): its records wait until somebody resumes it."
    answer = client.post(reverse("admin:sync_errorgroup_retry", args=[group().pk]), follow=True)
    assert waits in answer.content.decode(), "the preview says it before anything is started"
    operation = BulkOperation.objects.get()
    client.post(reverse("admin:bulk_bulkoperation_start", args=[operation.pk]))
    page = reverse("admin:bulk_bulkoperation_progress", args=[operation.pk])
    text = client.get(page).content.decode()
    assert waits in text and reverse("admin:remote_remote_change", args=[remote.pk]) in text
    assert "No worker has looked at it since" not in text
    Gate.objects.update(paused=False, breaker="open", open_until=timezone.now() + timedelta(minutes=1))
    assert f"{remote} does not answer: its records wait" in client.get(page).content.decode()
    Gate.objects.update(breaker="closed", open_until=None)
    BulkOperation.objects.update(progress_at=timezone.now() - timedelta(minutes=2))
    text = client.get(page).content.decode()
    assert "its records wait" not in text and "No worker has looked at it since" in text
    for _ in range(6):
        drain()
        work.run(operation.pk, seconds=5)
    text = client.get(page).content.decode()
    assert "Done" in text and "its records wait" not in text and "No worker has" not in text


def test_an_owner_retries_own_records_only(failed: World) -> None:
    failed.client("olga").post(reverse("admin:sync_errorgroup_retry", args=[group().pk]))
    assert list(BulkOperation.objects.get().rows.values_list("target_id", flat=True)) == [failed.records[0].pk]
    answer = failed.client("vera").post(reverse("admin:sync_errorgroup_retry", args=[group().pk]))
    assert answer.status_code == 403


def test_a_huge_group_is_retried_in_parts_and_says_so(failed: World, monkeypatch: Any) -> None:
    monkeypatch.setattr("syncportal.sync.screens.bulk.MOST", 2)
    answer = failed.client("ops").post(reverse("admin:sync_errorgroup_retry", args=[group().pk]), follow=True)
    assert "These are the first 2 of 3 records" in text_of(answer)
    assert BulkOperation.objects.get().total == 2


def test_top_errors_lead_to_their_group(failed: World) -> None:
    board = failed.client("ops").get("/admin/").content.decode()
    assert f'<a href="{page()}"><code>http_422</code></a>' in board
    assert page("http_503") in board
    assert page("http_503") not in failed.client("olga").get("/admin/?window=24h").content.decode()


def test_a_record_leads_to_its_group_until_it_agrees(failed: World) -> None:
    record, owner = failed.records[0], failed.client("olga")
    address = reverse("admin:sync_record_change", args=[record.pk])
    link = f'<a href="{page()}">See what else fails for this cause</a>'
    assert link in owner.get(address).content.decode() and owner.get(page()).status_code == 200
    failed.master.faults.clear()
    edit(record, city="Umeå")
    drain()
    assert link not in owner.get(address).content.decode()


def test_a_group_without_records_says_that_it_is_over(failed: World) -> None:
    client = failed.client("ops")
    failed.master.faults.clear()
    for record in failed.records:
        edit(record, city="Umeå")
    drain()
    assert rows(client.get(LIST)) == {} and "No open error groups" in text_of(client.get(LIST))
    assert rows(client.get(f"{LIST}?state=over")) == {"http_422": 0, "http_503": 0}
    text = text_of(client.get(page()))
    assert "No record fails for this cause any more." in text and "Nothing to retry" in text


def test_the_list_costs_the_same_number_of_queries(failed: World) -> None:
    client = failed.client("ops")

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get(LIST).status_code == 200
        return len(seen)

    before = queries()
    for number, status in ((2, 400), (3, 410), (4, 415), (5, 418)):
        failed.master.faults.clear()
        refuse(failed, number, status=status)
        edit(failed.records[number - 1], city="Umeå")
        drain()
    assert len(rows(client.get(LIST))) > 3 and queries() <= before
