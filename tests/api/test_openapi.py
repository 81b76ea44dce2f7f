"""The API's description: committed, valid, and true of real answers."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client, override_settings
from jsonschema import Draft202012Validator
from rest_framework.test import APIClient

from tests.api.world import (
    World,
    differing,
    draft_retry,
    error_group,
    exchange,
    failed_task,
    happened,
    in_conflict,
    open_alert,
    put_into,
)
from tests.factories import NEW_ACCOUNT

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
BASE = "/api/v1"


def document(tmp_path: Path) -> str:
    target = tmp_path / "openapi.yaml"
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(target))
    return target.read_text("utf-8")


def test_the_committed_description_is_the_codes(tmp_path: Path) -> None:
    made = document(tmp_path)
    assert COMMITTED.read_text("utf-8") == made, (
        "run: python manage.py spectacular --fail-on-warn --file docs/openapi.yaml"
    )


@pytest.fixture
def description() -> dict[str, Any]:
    return yaml.safe_load(COMMITTED.read_text("utf-8"))


def check(description: dict[str, Any], operation: dict[str, Any], answer: Any) -> None:
    """Assert that an answer is one that its operation describes: status, content type and body."""
    described = operation["responses"].get(str(answer.status_code)) or operation["responses"]["default"]
    kind = answer["Content-Type"].split(";")[0]
    assert kind in described["content"], (answer.status_code, kind)
    schema = {**described["content"][kind]["schema"], "components": description["components"]}
    problems = [
        f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(answer.json())
    ]
    assert problems == []


def test_real_answers_fit_the_description(world: World, description: dict[str, Any]) -> None:
    conflict = in_conflict(world.record)
    exchange(world.record, http_status=None, error_kind="timeout")
    happened(world.record, actor_kind="user", actor_label="owner")
    happened(None, "remote.paused")
    put_into(world.others, "RETRY_PENDING", reason="timeout", detail="It took too long.", attempts=2)
    task = failed_task(world.others, world.people["owner"])
    at_task, shifted = f"/compensating-tasks/{task.task_id}/", {"groupId": "g", "updates": [{"occurrenceId": "A"}]}
    row = differing(world.others)
    at_run, at_row, start = f"/reconciliation-runs/{row.run_id}/", f"/discrepancies/{row.pk}/", "/reconciliation-runs/"
    at_alert = f"/alerts/{open_alert(world.resource).pk}/acknowledge/"
    at_group = f"/error-groups/{error_group(world.resource, world.people['other']).pk}/"
    at_bulk = f"/bulk-operations/{draft_retry(world.people['operator'], world.others, world.record).pk}/"
    client, paths = world.caller("operator"), description["paths"]
    mine, others = f"/records/{world.record.pk}/", f"/records/{world.others.pk}/"
    decision = {"action": "use_remote", "revision": 1, "remoteVersion": "4"}
    requests: list[tuple[str, str, str, Any, int]] = [
        ("get", "/resources/", "/resources/", None, 200),
        ("get", "/resources/{slug}/", f"/resources/{world.resource.slug}/", None, 200),
        ("get", "/records/", "/records/", None, 200),
        ("get", "/records/", "/records/?nothing=1", None, 400),
        ("get", "/records/{id}/", mine, None, 200),
        ("get", "/records/{id}/", others, None, 200),
        ("get", "/records/{id}/", "/records/999/", None, 404),
        ("get", "/records/{id}/timeline/", f"{mine}timeline/", None, 200),
        ("post", "/records/", "/records/", {"resource": world.resource.slug, "data": NEW_ACCOUNT}, 201),
        ("post", "/records/", "/records/", {"resource": "x", "data": {}}, 422),
        ("patch", "/records/{id}/", others, {"data": {"name": "Eve"}}, 200),
        ("patch", "/records/{id}/", mine, {"data": {"name": "Eve"}}, 202),
        ("delete", "/records/{id}/", mine, None, 202),
        ("post", "/records/{id}/retry/", f"{mine}retry/", {}, 409),
        ("get", "/sync-logs/", "/sync-logs/", None, 200),
        ("get", "/events/", "/events/", None, 200),
        ("get", "/conflicts/", "/conflicts/", None, 200),
        ("post", "/conflicts/{id}/resolve/", f"/conflicts/{conflict.pk}/resolve/", decision, 409),
        ("post", "/conflicts/{id}/resolve/", f"/conflicts/{conflict.pk}/resolve/", {"action": "x"}, 422),
        ("get", "/conflicts/{id}/", f"/conflicts/{conflict.pk}/", None, 200),
        ("get", "/grouped-updates/", "/grouped-updates/", None, 200),
        ("get", "/grouped-updates/{requestId}/", f"/grouped-updates/{task.request_id}/", None, 200),
        ("get", "/grouped-updates/{requestId}/", "/grouped-updates/none/", None, 404),
        ("post", "/grouped-updates/", "/grouped-updates/", {"groups": [shifted]}, 422),
        ("get", "/compensating-tasks/", "/compensating-tasks/", None, 200),
        ("get", "/compensating-tasks/{taskId}/", at_task, None, 200),
        ("post", "/compensating-tasks/{taskId}/retry/", f"{at_task}retry/", {}, 200),
        ("post", "/compensating-tasks/{taskId}/retry/", f"{at_task}retry/", {"x": 1}, 422),
        ("get", start, start, None, 200),
        ("get", "/reconciliation-runs/{id}/", at_run, None, 200),
        ("post", "/reconciliation-runs/{id}/apply/", f"{at_run}apply/", {}, 202),
        ("post", "/reconciliation-runs/{id}/apply/", f"{at_run}apply/", {}, 409),
        ("post", "/reconciliation-runs/{id}/cancel/", f"{at_run}cancel/", {}, 409),
        ("post", start, start, {"resource": world.resource.slug}, 202),
        ("post", start, start, {"resource": world.resource.slug}, 409),
        ("get", "/discrepancies/", "/discrepancies/", None, 200),
        ("get", "/discrepancies/{id}/", at_row, None, 200),
        ("post", "/discrepancies/{id}/fix/", f"{at_row}fix/", {"direction": "sideways"}, 422),
        ("post", "/discrepancies/{id}/ignore/", f"{at_row}ignore/", {"reason": "Known"}, 200),
        ("post", "/discrepancies/{id}/ignore/", f"{at_row}ignore/", {"reason": "Again"}, 409),
        ("post", "/discrepancies/{id}/ignore/", f"{at_row}ignore/", {"reason": []}, 422),
        ("get", "/error-groups/", "/error-groups/?state=open&state=snoozed", None, 200),
        ("get", "/error-groups/", "/error-groups/?state=x", None, 400),
        ("get", "/error-groups/{id}/", at_group, None, 200),
        ("post", "/error-groups/{id}/snooze/", f"{at_group}snooze/", {"until": "2020-01-01T00:00:00Z"}, 422),
        ("post", "/error-groups/{id}/ignore/", f"{at_group}ignore/", {"why": "Known"}, 200),
        ("post", "/error-groups/{id}/note/", f"{at_group}note/", {"note": "Ask Ada"}, 200),
        ("post", "/error-groups/{id}/watch/", f"{at_group}watch/", {}, 200),
        ("post", "/error-groups/{id}/retry/", f"{at_group}retry/", {"dryRun": True}, 202),
        ("post", "/error-groups/{id}/retry/", f"{at_group}retry/", {"dryRun": []}, 422),
        ("get", "/bulk-operations/", "/bulk-operations/?state=draft&act=records.requeue", None, 200),
        ("get", "/bulk-operations/{id}/", at_bulk, None, 200),
        ("get", "/bulk-operations/{id}/rows/", f"{at_bulk}rows/?state=waiting", None, 200),
        ("get", "/bulk-operations/{id}/rows/", f"{at_bulk}rows/?state=draft", None, 400),
        ("post", "/bulk-operations/{id}/go-on/", f"{at_bulk}go-on/", {}, 409),
        ("post", "/bulk-operations/{id}/start/", f"{at_bulk}start/", {}, 202),
        ("post", "/bulk-operations/{id}/start/", f"{at_bulk}start/", {}, 409),
        ("post", "/bulk-operations/{id}/cancel/", f"{at_bulk}cancel/", {}, 200),
        ("post", "/bulk-operations/{id}/cancel/", f"{at_bulk}cancel/", {}, 409),
        ("get", "/bulk-operations/{id}/", "/bulk-operations/999/", None, 404),
        ("get", "/alerts/", "/alerts/", None, 200),
        ("get", "/alerts/", "/alerts/?live=perhaps&rule=none", None, 400),
        ("post", "/alerts/{id}/acknowledge/", at_alert, {"note": "On it"}, 200),
        ("post", "/alerts/{id}/acknowledge/", at_alert, {}, 409),
        ("post", "/alerts/{id}/acknowledge/", at_alert, {"x": 1}, 422),
    ]
    for verb, path, address, body, status in requests:
        answer = getattr(client, verb)(BASE + address, body)
        assert answer.status_code == status, (verb, address, answer.content)
        check(description, paths[BASE + path][verb], answer)
    check(description, paths[f"{BASE}/records/"]["get"], APIClient().get(f"{BASE}/records/"))
    decision["revision"] = world.caller("operator").get(f"{BASE}/conflicts/{conflict.pk}/").json()["revision"]
    answer = client.post(f"{BASE}/conflicts/{conflict.pk}/resolve/", decision)
    assert answer.status_code == 200
    check(description, paths[f"{BASE}/conflicts/{{id}}/resolve/"]["post"], answer)


def test_every_route_is_described(description: dict[str, Any]) -> None:
    from tests.api.test_security import routes

    described = {(path, verb) for path, operations in description["paths"].items() for verb in operations}
    served = {(route.replace("{pk}", "{id}"), verb) for route, actions in routes() for verb in actions}
    assert served == described


@pytest.mark.parametrize("address", ["/api/schema/", "/api/docs/"])
def test_the_description_needs_a_login_or_a_key_unless_debugging(world: World, address: str) -> None:
    refused = Client().get(address)
    assert refused.status_code == (401 if address == "/api/schema/" else 302)
    if refused.status_code == 401:
        assert (refused["Content-Type"], refused.json()["code"]) == ("application/problem+json", "not_authenticated")
    with override_settings(DEBUG=True):
        assert Client().get(address).status_code == 200
    session = Client()
    session.force_login(world.people["nobody"])
    assert session.get(address).status_code == 200
    assert world.caller("owner").get(address).status_code == 200


def test_swagger_ui_works_offline_under_the_strict_policy(world: World) -> None:
    session = Client()
    session.force_login(world.people["owner"])
    page = session.get("/api/docs/")
    text = page.content.decode()
    assert "unsafe" not in page["Content-Security-Policy"]
    assert "<style" not in text
    assert "<script>" not in text
    assert "http://" not in text
    assert "https://" not in text
    addresses = [part.split('"')[1] for part in text.replace("href=", "src=").split("src=")[1:]]
    assert len(addresses) >= 5
    for address in addresses:
        answer = session.get(address.replace("&amp;", "&"), follow=True)
        assert answer.status_code == 200, address
    script = session.get("/api/docs/", {"script": ""})
    assert script["Content-Type"].startswith("application/javascript")
    assert b"/api/schema/" in script.content
