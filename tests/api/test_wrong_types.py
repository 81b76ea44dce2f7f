"""Every place of every body the API takes, given a value of another kind: a problem document, never a 500."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone

from syncportal.remote import limits
from tests.api.world import World, differing, draft_retry, error_group, failed_task, in_conflict, open_alert

EVIL: tuple[Any, ...] = (
    None, True, -1, 10**400, 1.5, "", "\u202e\x7f", "9" * 5_000, [], [[]], {}, {"": {"/": None}}, [{"value": {}}],
)  # fmt: skip


def variants(body: Any) -> Iterator[Any]:
    """Yield the body with one place after the other replaced by each evil value, and with an unknown member."""
    yield from EVIL
    if isinstance(body, dict):
        yield {**body, "unknown": 1}
        for name, inner in body.items():
            yield {key: value for key, value in body.items() if key != name}
            yield from ({**body, name: other} for other in variants(inner))
    elif isinstance(body, list):
        for place, inner in enumerate(body):
            yield from ([*body[:place], other, *body[place + 1 :]] for other in variants(inner))


def bodies(world: World) -> dict[str, tuple[str, str, Any]]:
    record, ops = world.record.pk, world.people["operator"]
    conflict = in_conflict(world.others)
    task = failed_task(world.record, ops)
    found = differing(world.record)
    group = error_group(world.resource, ops)
    update = {"occurrenceId": "A-1", "changes": {"city": "Porto"}, "expectedVersion": "3"}
    choice = {"action": "merge", "fields": {"/email": {"value": "a@example.org"}}, "revision": 2, "remoteVersion": "4"}
    slug = world.resource.slug
    return {
        "create": ("POST", "records/", {"resource": slug, "externalId": "N", "owner": "owner", "data": {"name": "x"}}),
        "change": ("PATCH", f"records/{record}/", {"data": {"name": "x"}, "owner": "owner"}),
        "retry": ("POST", f"records/{record}/retry/", {}),
        "resolve": ("POST", f"conflicts/{conflict.pk}/resolve/", choice),
        "grouped": ("POST", "grouped-updates/", {"requestId": "r", "resource": slug, "validateOnly": True,
                                                  "groups": [{"groupId": "g", "updates": [update]}]}),
        "task": ("POST", f"compensating-tasks/{task.task_id}/retry/", {}),
        "run": ("POST", "reconciliation-runs/", {"resource": slug, "dryRun": True}),
        "fix": ("POST", f"discrepancies/{found.pk}/fix/", {"direction": "nowhere"}),
        "ignore": ("POST", f"discrepancies/{found.pk}/ignore/", {"reason": "x"}),
        "alert": ("POST", f"alerts/{open_alert(world.resource).pk}/acknowledge/", {"note": "x"}),
        "note": ("POST", f"error-groups/{group.pk}/note/", {"note": "x"}),
        "retry group": ("POST", f"error-groups/{group.pk}/retry/", {"dryRun": True}),
        "start": ("POST", f"bulk-operations/{draft_retry(ops, world.record).pk}/start/", {}),
        "snooze": ("POST", f"error-groups/{group.pk}/snooze/", {"hours": 1, "note": "x"}),
    }  # fmt: skip


def test_no_wrong_type_anywhere_is_an_error_of_ours(world: World) -> None:
    client = world.caller("operator")
    limits.pause(world.resource.remote_id, reason="test", detail="", now=timezone.now())  # nothing is called
    wrong, asked = [], 0
    for name, (method, path, body) in bodies(world).items():
        for other in variants(body):
            answer = client.generic(method, f"/api/v1/{path}", json.dumps(other), content_type="application/json")
            asked += 1
            problem = answer.status_code >= 400 and answer["Content-Type"] != "application/problem+json"
            if answer.status_code == 500 or answer.status_code == 404 or problem:
                wrong.append((name, other, answer.status_code, answer.content[:200]))
    assert not wrong, (len(wrong), {one[0] for one in wrong}, wrong[:3])
    assert asked > 500


@pytest.mark.parametrize("cursor", ["x", "\x00", "%FF", "cD0x", "9" * 3000, "cD0yMDI2", "bz0xMDAwMDAwMDAwMDAw"])
@pytest.mark.parametrize(
    "name", ["records", "conflicts", "sync-logs", "grouped-updates", "discrepancies", "alerts", "bulk-operations"]
)
def test_a_cursor_that_was_tampered_with_is_refused(world: World, name: str, cursor: str) -> None:
    answer = world.caller("operator").get(f"/api/v1/{name}/", {"cursor": cursor})
    assert answer.status_code in (200, 400) and answer["Content-Type"] in (
        "application/json",
        "application/problem+json",
    )
