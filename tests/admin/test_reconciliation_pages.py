"""The pages of runs and discrepancies: start, progress, plan, both sides, repairs one by one and in bulk, scope."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from reconciliation import fixing, reports, runs
from reconciliation.bulk_acts import how_it_went
from reconciliation.models import Discrepancy, Run
from reconciliation.screens.run_list import bars
from reconciliation.screens.run_page import duration
from syncportal.bulk import work, workers
from syncportal.bulk.models import BulkOperation
from syncportal.bulk.states import RowState
from syncportal.sync.models import Record
from tests.admin.conftest import HOSTILE, World
from tests.factories import PERSON
from tests.reconciliation.scene import to_the_end

RUNS = "/admin/reconciliation/run/"
LIST = "/admin/reconciliation/discrepancy/"


@pytest.fixture
def apart(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Let three objects differ at the remote, and compare; the policy repairs nothing."""
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0)
    alert = dict.fromkeys(("version_drift", "data_mismatch", "missing_remote"), "alert") | {"missing_local": "off"}
    world.resource.config = {**world.resource.config, "policy": {"repair": alert, "lag_s": 0, "brake_percent": 100}}
    world.resource.save()
    for number, city in ((1, HOSTILE[0]), (3, "Bergen"), (4, "Tartu")):
        world.master.edit("accounts", f"ACC-000{number}", {"city": city})
    to_the_end(runs.start(world.resource, actor=PERSON))
    return world


def page(row: Discrepancy) -> str:
    return reverse("admin:reconciliation_discrepancy_change", args=[row.pk])


def act(row: Discrepancy, verb: str) -> str:
    return reverse("admin:reconciliation_discrepancy_do", args=[row.pk, verb])


def of(external_id: str) -> Discrepancy:
    return Discrepancy.objects.get(external_id=external_id)


def test_a_run_that_could_not_look_at_everything_is_repeated_with_one_button(apart: World) -> None:
    run = Run.objects.get()
    address, button = reverse("admin:reconciliation_run_change", args=[run.pk]), 'id="repeat-run"'
    assert button not in apart.client("ops").get(address).content.decode()
    Run.objects.update(state="failed", problem="The page failed.")
    page = apart.client("ops").get(address).content.decode()
    assert button in page and f'name="resource" value="{run.resource.slug}"' in page
    assert button not in apart.client("vera").get(address).content.decode()


def test_a_run_shows_what_it_found_and_links_to_exactly_those_rows(apart: World) -> None:
    run, client = Run.objects.get(), apart.client("ops")
    text = client.get(reverse("admin:reconciliation_run_change", args=[run.pk])).content.decode()
    kind = Discrepancy.objects.filter(external_id="ACC-0003").get().kind
    number = Discrepancy.objects.filter(kind=kind).count()
    link = f"{LIST}?run={run.pk}&amp;kind={kind}&amp;state=all"
    assert f'<a href="{link}">{number}</a>' in text
    listed = client.get(link.replace("&amp;", "&")).context["cl"].result_list
    assert len(listed) == number
    assert HOSTILE[0] not in client.get(LIST).content.decode()
    csv = reverse("admin:reconciliation_run_csv", args=[run.pk])
    assert csv in text
    to_the_end(runs.start(apart.resource, actor=PERSON))
    text = client.get(reverse("admin:reconciliation_run_change", args=[run.pk])).content.decode()
    assert f"0 of {reports.differing(run)} are listed under this run" in text and csv not in text


def test_people_without_the_whole_view_see_no_runs_and_their_own_discrepancies(apart: World) -> None:
    run = reverse("admin:reconciliation_run_change", args=[Run.objects.get().pk])
    csv = reverse("admin:reconciliation_run_csv", args=[Run.objects.get().pk])
    for who, status in (("ops", 200), ("vera", 200), ("olga", 404), ("nobody", 403)):
        assert apart.client(who).get(run).status_code == status
        assert apart.client(who).get(csv).status_code == status
    assert apart.client("olga").get(RUNS).status_code == 403
    assert [row.external_id for row in apart.client("olga").get(LIST).context["cl"].result_list] == ["ACC-0001"]
    assert apart.client("olga").get(page(of("ACC-0003"))).status_code == 404
    assert apart.client("olga").get(page(of("ACC-0001"))).status_code == 200
    for who in ("olga", "vera"):
        for verb in ("take_remote", "push_local", "ignore", "compare"):
            assert apart.client(who).post(act(of("ACC-0001"), verb), {"reason": "x"}).status_code == 403
        assert apart.client(who).post(f"{RUNS}start/", {"resource": apart.resource.slug}).status_code == 403
    assert not Discrepancy.objects.filter(wanted_at__isnull=False).exists() and Run.objects.count() == 1


def test_a_run_is_started_once_and_a_second_click_leads_to_it(apart: World) -> None:
    client = apart.client("ops")
    first = client.post(f"{RUNS}start/", {"resource": apart.resource.slug, "dry_run": "1"})
    again = client.post(f"{RUNS}start/", {"resource": apart.resource.slug})
    assert first["Location"] == again["Location"]
    run = Run.objects.order_by("-id")[0]
    assert run.dry_run and run.started_by == apart.people["ops"]
    progress = reverse("admin:reconciliation_run_progress", args=[run.pk])
    assert 'hx-trigger="every 2s, live"' in client.get(progress).content.decode()
    to_the_end(run)
    assert "hx-trigger" not in client.get(progress).content.decode()
    everything = client.post(f"{RUNS}start/", {"resource": "*"}, follow=True)
    assert "1 run began." in everything.content.decode()
    assert (
        "0 runs began, 1 resource was at it already."
        in client.post(f"{RUNS}start/", {"resource": "*"}, follow=True).content.decode()
    )
    for wrong in ("", "nope", "\x00", "x" * 500):
        assert "nothing was started" in client.post(f"{RUNS}start/", {"resource": wrong}, follow=True).content.decode()


def test_chosen_records_are_compared_in_one_run_a_resource(apart: World) -> None:
    page, chosen = reverse("admin:sync_record_changelist"), [apart.records[0].pk, apart.records[2].pk]
    form = {"action": "compare", "_selected_action": chosen}
    client = apart.client("ops")
    assert "Compare both sides now" in client.get(page).content.decode()
    answer = client.post(page, form)
    run = Run.objects.get(scope="selection")
    assert answer["Location"] == reverse("admin:reconciliation_run_change", args=[run.pk])
    assert run.record_ids == chosen
    assert "is being reconciled right now" in client.post(page, form, follow=True).content.decode()
    for who in ("olga", "vera"):
        assert "Compare both sides now" not in apart.client(who).get(page).content.decode()
        apart.client(who).post(page, form)
    assert Run.objects.filter(scope="selection").count() == 1


def test_one_record_is_compared_from_its_page_by_operations_only(apart: World) -> None:
    client, record = apart.client("ops"), apart.records[2]
    page = reverse("admin:sync_record_change", args=[record.pk])
    compare = reverse("admin:sync_record_do", args=[record.pk, "compare"])
    assert compare in client.get(page).content.decode()
    for who in ("olga", "vera"):
        own = reverse("admin:sync_record_do", args=[apart.records[0].pk, "compare"])
        assert own not in apart.client(who).get(page.replace(str(record.pk), str(apart.records[0].pk))).content.decode()
        assert apart.client(who).post(own).status_code == 404
    assert client.get(compare).status_code == 405
    answer = client.post(compare)
    run = Run.objects.get(scope="selection")
    at = reverse("admin:reconciliation_run_change", args=[run.pk])
    assert (answer["Location"], run.record_ids) == (at, [record.pk])
    assert client.post(compare)["Location"] == at, "a second click leads to the same run"
    to_the_end(run)
    told = client.get(at).content.decode()
    assert f'<a href="{page}">' in told and f"run={run.pk}&amp;kind=data_mismatch" in told
    Record.objects.filter(pk=record.pk).update(external_id=None)
    assert "The remote does not know it yet." in client.get(page).content.decode()
    refused = client.post(f"{compare}?back=status%3DERROR", follow=True)
    assert "None of these records" in refused.content.decode() and refused.redirect_chain[-1][0].startswith(page)


def test_operations_cancel_a_running_run_and_nobody_else_does(apart: World) -> None:
    run = runs.start(apart.resource, actor=PERSON)
    address = reverse("admin:reconciliation_run_cancel", args=[run.pk])
    here = reverse("admin:reconciliation_run_change", args=[run.pk])
    assert address in apart.client("ops").get(here).content.decode()
    assert address not in apart.client("vera").get(here).content.decode()
    assert apart.client("vera").post(address).status_code == 403
    assert apart.client("olga").post(address).status_code == 404
    assert apart.client("ops").get(address).status_code == 405
    for words in ("Cancelled. What the run found", "Nothing was changed. The run is at its end"):
        assert words in apart.client("ops").post(address, follow=True).content.decode()
    run.refresh_from_db()
    assert run.state == "cancelled"


def test_a_dry_runs_plan_is_applied_once(apart: World) -> None:
    repair = dict.fromkeys(("version_drift", "data_mismatch"), "take_remote") | {"missing_local": "off"}
    apart.resource.config["policy"]["repair"] = repair
    apart.resource.save()
    run, client = to_the_end(runs.start(apart.resource, actor=PERSON, dry_run=True)), apart.client("ops")
    address = reverse("admin:reconciliation_run_change", args=[run.pk])
    assert "Apply exactly this plan (3)" in client.get(address).content.decode()
    to_the_end(runs.start(apart.resource, actor=PERSON, dry_run=True, record_ids=[apart.records[2].pk]))
    text = client.get(address).content.decode()
    assert "Apply exactly this plan (2)" in text and "1 more was planned, and was settled or looked at again" in text
    run = to_the_end(runs.start(apart.resource, actor=PERSON, dry_run=True))
    address = reverse("admin:reconciliation_run_change", args=[run.pk])
    apply = reverse("admin:reconciliation_run_apply", args=[run.pk])
    assert apart.client("vera").post(apply).status_code == 403
    assert "3 repairs were asked for" in client.post(apply, follow=True).content.decode()
    assert "applied already" in client.post(apply, follow=True).content.decode()
    fixing.work_off(seconds=10)
    assert set(Discrepancy.objects.values_list("state", flat=True)) == {"fixed"}
    assert Record.objects.get(external_id="ACC-0003").data["city"] == "Bergen"


def test_one_is_repaired_ignored_or_compared_again(apart: World) -> None:
    client = apart.client("ops")
    row = of("ACC-0003")
    text = client.get(page(row)).content.decode()
    assert "Bergen" in text and "Take the remote&#x27;s values" in text
    assert "Asked for." in client.post(act(row, "take_remote"), follow=True).content.decode()
    assert "already asked for" in client.post(act(row, "push_local"), follow=True).content.decode()
    assert 'hx-trigger="every 2s, live"' in client.get(page(row)).content.decode(), "the outcome appears by itself"
    fixing.work_off(seconds=10)
    assert of("ACC-0003").state == "fixed"
    assert 'hx-trigger="every 2s' not in client.get(page(row)).content.decode()
    other = of("ACC-0004")
    assert "say why" in client.post(act(other, "ignore"), {"reason": " "}, follow=True).content.decode()
    client.post(act(other, "ignore"), {"reason": HOSTILE[0]})
    shown = client.get(page(other)).content.decode()
    assert of("ACC-0004").state == "ignored" and HOSTILE[0] not in shown and "&lt;script&gt;" in shown
    answer = client.post(act(other, "compare"))
    run = Run.objects.order_by("-id")[0]
    assert answer["Location"] == reverse("admin:reconciliation_run_change", args=[run.pk])
    assert to_the_end(run).checked == 1
    assert client.post(act(other, "explode")).status_code == 404


def test_many_are_repaired_with_frozen_ids_and_a_result_for_each(apart: World) -> None:
    client = apart.client("ops")
    ids = list(Discrepancy.objects.order_by("pk").values_list("pk", flat=True))
    apart.client("ops").post(act(of("ACC-0004"), "ignore"), {"reason": "known"})
    data = {"action": "take_remote", "_selected_action": ids}
    preview = client.post(f"{LIST}?state=all", data, follow=True)
    assert preview.context["preview"].taken == 3
    apart.master.edit("accounts", "ACC-0001", {"city": "moved on"})
    operation = preview.context["operation"]
    started = client.post(reverse("admin:bulk_bulkoperation_start", args=[operation.pk]))
    assert started["Location"] == reverse("admin:bulk_bulkoperation_change", args=[operation.pk])
    assert "Under way" in client.get(started["Location"]).content.decode()
    fixing.work_off(seconds=10)
    workers.run_waiting(seconds=5)
    found = BulkOperation.objects.get()
    assert (found.state, found.done, found.skipped) == ("done", 2, 1)
    skipped = found.rows.get(state=RowState.SKIPPED)
    assert skipped.target_id == of("ACC-0001").pk and skipped.outcome
    assert Record.objects.get(external_id="ACC-0004").data["city"] == "Tartu"


def test_many_are_ignored_with_one_reason(apart: World) -> None:
    client = apart.client("ops")
    data = {"action": "ignore", "_selected_action": list(Discrepancy.objects.values_list("pk", flat=True))}
    operation = client.post(LIST, data, follow=True).context["operation"]
    start = reverse("admin:bulk_bulkoperation_start", args=[operation.pk])
    assert client.post(start, {"reason": ""}).status_code == 422
    assert "3 ignored." in client.post(start, {"reason": "seen"}, follow=True).content.decode()
    assert set(Discrepancy.objects.values_list("ignore_reason", flat=True)) == {"seen"}


def test_how_a_repair_that_was_asked_for_counts(apart: World) -> None:
    rows = list(Discrepancy.objects.order_by("pk"))
    changes: list[dict[str, Any]] = [{"state": "fixed"}, {"state": "closed"}, {"outcome": "it moved"}]
    for row, change in zip(rows, changes, strict=True):
        Discrepancy.objects.filter(pk=row.pk).update(**change)
    seen = how_it_went([*(row.pk for row in rows), 10**9])
    assert [one.state for one in seen.values()] == [RowState.DONE, RowState.DONE, RowState.SKIPPED, RowState.SKIPPED]
    assert [one.outcome for one in seen.values()][2:] == ["it moved", "gone"]


def test_the_groups_and_filters_of_the_list(apart: World) -> None:
    client = apart.client("ops")
    answer = client.get(LIST)
    assert answer.content.decode().count(">Open</span>") == 3, "each row says where the difference stands"
    group = answer.context["groups"][0]
    narrowed = client.get(f"{LIST}?kind={group.kind}&cause={group.cause}").context["cl"].result_list
    assert len(narrowed) == group.count
    assert not client.get(f"{LIST}?state=fixed").context["cl"].result_list
    for odd in ("?run=abc", "?run=99999999999999999999", "?state=zzz", "?kind=%00"):
        assert client.get(LIST + odd).status_code in (200, 302), odd


def test_every_state_of_a_run_has_its_words(apart: World) -> None:
    run, client = Run.objects.get(), apart.client("ops")
    address = reverse("admin:reconciliation_run_change", args=[run.pk])
    for state, words in (("braked", "The brake held"), ("failed", "could not look at everything"),
                         ("cancelled", "The run was cancelled"), ("finished", "What it found")):  # fmt: skip
        Run.objects.filter(pk=run.pk).update(state=state, problem=HOSTILE[0])
        text = client.get(address).content.decode()
        assert words in text and HOSTILE[0] not in text


def test_bars_begin_at_zero_and_fill_the_width(apart: World) -> None:
    point = client_points(apart)[0]
    drawn = bars([point, point])
    assert [(bar.x, bar.height, bar.y) for bar in drawn] == [(0, 100, 0), (50, 100, 0)]
    assert bars([]) == []


def client_points(world: World) -> list[Any]:
    answer = world.client("ops").get(f"{RUNS}?resource={world.resource.slug}")
    assert '<svg class="bars"' in answer.content.decode()
    points: list[Any] = answer.context["points"]
    return points


@pytest.mark.parametrize(("seconds", "words"), [(0.5, "0.5 s"), (42, "42 s"), (95, "1 min 35 s"), (7_260, "2 h 1 min")])
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_the_list_needs_no_more_queries_for_more_rows(apart: World) -> None:
    client, counted = apart.client("ops"), []
    client.get(LIST)
    for query, rows in (("?q=ACC-0001", 1), ("?q=ACC-000", 3)):
        with CaptureQueriesContext(connection) as queries:
            assert len(client.get(LIST + query).context["cl"].result_list) == rows
        counted.append(len(queries))
    assert counted[0] == counted[1]
