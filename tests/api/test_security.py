"""Who may do what: generated from the map of addresses, so that a new route is covered on the day it appears."""

from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from rest_framework.test import APIClient

from reconciliation.models import Discrepancy
from syncportal.access.keys import Scope
from syncportal.sync import refresh
from syncportal.sync.models import Conflict, Record, SyncJob
from syncportal.sync.refresh import Refreshed, Result
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

VERBS = ("get", "post", "patch", "put", "delete")
NAMED = ("{pk}", "{requestId}", "{taskId}")
NOBODYS = {"compensating-tasks": "00000000-0000-0000-0000-000000000000"}
MATRIX = Path(__file__).with_name("access_matrix.txt")


def routes() -> list[tuple[str, dict[str, str]]]:
    """Return every address under /api/v1/ with {pk} or {slug} where an object is named, and its verbs' actions."""
    found = []
    for prefix in get_resolver().url_patterns:
        if str(prefix.pattern) != "api/v1/":
            continue
        for route in prefix.url_patterns:
            text = str(route.pattern).removeprefix("^").removesuffix("$").removesuffix("\\Z")
            for group in route.pattern.regex.groupindex:
                start = text.index(f"(?P<{group}>")
                text = f"{text[:start]}{{{group}}}{text[text.index(')', start) + 1 :]}"
            actions = {verb: name for verb, name in route.callback.actions.items() if verb != "head"}
            found.append((f"/api/v1/{text}", actions))
    return found


def objects(world: World, *, of: str = "owner") -> dict[str, int | str]:
    """Make an object of every kind that belongs to a person, and return ids by the address's first word."""
    record = world.record if of == "owner" else world.others
    task = failed_task(record, world.people[of])
    difference = differing(record)
    return {
        "reconciliation-runs": difference.run_id,
        "discrepancies": difference.pk,
        "records": record.pk,
        "conflicts": in_conflict(record).pk,
        "grouped-updates": task.request_id,
        "compensating-tasks": str(task.task_id),
        "alerts": open_alert(record.resource).pk,
        "error-groups": error_group(record.resource, world.people[of]).pk,
        "bulk-operations": draft_retry(world.people[of], record).pk,
    }


def address(route: str, ids: dict[str, int | str], world: World) -> str:
    known = str(ids.get(route.split("/")[3], NOBODYS.get(route.split("/")[3], 0)))
    for name in NAMED:
        route = route.replace(name, known)
    return route.replace("{slug}", world.resource.slug)


def body_for(route: str, verb: str, world: World) -> dict[str, Any]:
    if route.endswith("/resolve/"):
        return {"action": "use_remote", "revision": 2, "remoteVersion": "4"}
    if verb == "post" and route.endswith("/records/"):
        return {"resource": world.resource.slug, "data": NEW_ACCOUNT}
    return {"data": {"name": "Eve"}} if verb == "patch" else {}


def content() -> list[Any]:
    """Return everything that a request could have changed, bookkeeping of keys aside."""
    skipped = {"access.apikey", "sessions.session"}
    return [
        (model._meta.label_lower, list(model._base_manager.order_by("pk").values_list()))
        for model in apps.get_models()
        if model._meta.label_lower not in skipped and model._meta.managed
    ]


def test_the_map_of_addresses_is_read() -> None:
    assert {"/api/v1/records/{pk}/retry/", "/api/v1/resources/{slug}/"} <= {route for route, _ in routes()}


def test_another_owner_gets_404_for_every_object_and_verb(world: World) -> None:
    ids, before = objects(world), None
    stranger, session = world.caller("other"), Client(raise_request_exception=False)
    session.force_login(world.people["other"])
    stranger.get("/api/v1/resources/")
    before = content()
    checked = 0
    for route, actions in routes():
        if not any(name in route for name in NAMED):
            continue
        for verb in actions:
            answer = getattr(stranger, verb)(address(route, ids, world), body_for(route, verb, world))
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (verb, route)
            missing = getattr(stranger, verb)(address(route, {}, world), body_for(route, verb, world))
            hide = {"requestId"}
            assert {k: v for k, v in answer.json().items() if k not in hide} == {
                k: v for k, v in missing.json().items() if k not in hide
            }, "what may not be seen looks like what does not exist"
            if verb == "get":
                assert session.get(address(route, ids, world)).status_code == 404
            checked += 1
    assert checked >= 11
    assert content() == before


def test_no_answer_to_a_stranger_names_the_others_record(world: World) -> None:
    objects(world)
    Record.objects.filter(pk=world.record.pk).update(title="Very private")
    exchange(world.record, url="http://remote/private-thing")
    happened(world.record, "sync.failed", data={"text": "private-thing"})
    for route, _ in routes():
        if "{" in route:
            continue
        answer = world.caller("other").get(route)
        assert b"private" not in answer.content.lower()
        assert b"ada@example.org" not in answer.content or b'"B"' in answer.content


def test_a_viewer_changes_nothing(world: World) -> None:
    ids = objects(world)
    viewer = world.caller("viewer")
    viewer.get("/api/v1/resources/")
    before = content()
    for route, actions in routes():
        for verb in set(actions) - {"get"}:
            answer = getattr(viewer, verb)(address(route, ids, world), body_for(route, verb, world))
            assert answer.status_code == 403, (verb, route)
    assert content() == before


def test_nothing_is_changed_by_get_or_head(world: World) -> None:
    ids = objects(world)
    client = world.caller("operator")
    client.get("/api/v1/resources/")
    before = content()
    for route, actions in routes():
        if "get" not in actions:
            continue
        for verb in ("get", "head"):
            with CaptureQueriesContext(connection) as captured:
                wanted = 204 if route.endswith("/stream/") else 200  # the test's client is a WSGI server
                assert getattr(client, verb)(address(route, ids, world)).status_code == wanted, route
            writes = [q["sql"] for q in captured if q["sql"].split()[0] in ("INSERT", "UPDATE", "DELETE")]
            assert writes == [], route
    assert content() == before


def test_a_session_needs_its_csrf_token_for_every_unsafe_verb(world: World) -> None:
    ids = objects(world)
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(world.people["operator"])
    before = content()
    for route, actions in routes():
        for verb in set(actions) - {"get"}:
            answer = getattr(client, verb)(
                address(route, ids, world), body_for(route, verb, world), content_type="application/json"
            )
            assert answer.status_code == 403, (verb, route)
            assert answer["Content-Type"] == "application/problem+json"
            assert "CSRF" in answer.json()["detail"]
    assert content() == before


def test_a_session_with_its_token_works(world: World) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.people["owner"])
    client.get("/admin/login/")
    token = client.cookies["csrftoken"].value if "csrftoken" in client.cookies else "a" * 32
    client.cookies["csrftoken"] = token
    address_ = f"/api/v1/records/{world.record.pk}/"
    answer = client.patch(address_, {"data": {"name": "Eve"}}, content_type="application/json", HTTP_X_CSRFTOKEN=token)
    assert answer.status_code == 200, answer.content
    assert answer.json()["data"]["name"] == "Eve"


def field_names() -> list[str]:
    """Return every column and member that a client might try to set."""
    names = {field.name for model in (Record, SyncJob, Conflict) for field in model._meta.get_fields()}
    names |= {"external_id", "owner_id", "resource_id", "externalId", "syncedAt", "deletedAt", "inDoubt", "heldBy",
              "statusReason", "maxAttempts", "is_superuser", "pk"}  # fmt: skip
    return sorted(names - {"data", "owner", "resource", "fields"})


@pytest.mark.parametrize("name", field_names())
def test_no_other_member_can_be_set(world: World, name: str) -> None:
    client = world.caller("operator")
    client.get("/api/v1/resources/")
    before = content()
    for value in (1, "x", None, True, {}, []):
        made = client.post("/api/v1/records/", {"resource": world.resource.slug, "data": NEW_ACCOUNT, name: value})
        changed = client.patch(f"/api/v1/records/{world.record.pk}/", {"data": {}, name: value})
        for answer in (made, changed):
            assert answer.status_code == 422
            assert f"/{name}" in {error["pointer"] for error in answer.json()["errors"]}
    assert content() == before


def test_members_inside_data_stay_data(world: World) -> None:
    patch = {"data": {"revision": 99, "owner": "other", "status": "SYNCED", "deleted_at": "2020-01-01"}}
    world.caller("owner").patch(f"/api/v1/records/{world.record.pk}/", patch)
    world.record.refresh_from_db()
    assert world.record.revision in (1, 2)
    assert (world.record.owner, world.record.deleted_at) == (world.people["owner"], None)


CALLERS: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "anonymous": ("", ()),
    "nobody": ("nobody", ()),
    "owner": ("owner", ()),
    "other": ("other", ()),
    "viewer": ("viewer", ()),
    "operator": ("operator", ()),
    "admin": ("admin", ()),
    "owner:read": ("owner", (Scope.READ,)),
    "owner:write": ("owner", (Scope.WRITE,)),
    "operator:read+write": ("operator", (Scope.READ, Scope.WRITE)),
    "operator:read+operate": ("operator", (Scope.READ, Scope.OPERATE)),
}


def _busy(record_id: int, **kwargs: object) -> Result:
    return Result(record_id, Refreshed.BUSY, "busy")


def test_role_by_route_by_verb_is_as_reviewed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare with access_matrix.txt; after a wanted change, delete the file, run twice and review the difference."""
    monkeypatch.setattr(refresh, "refresh", _busy)
    ids = objects(world)
    clients = {name: world.caller(*([who] + list(scopes))) for name, (who, scopes) in CALLERS.items()}
    lines = []
    for route, actions in sorted(routes()):
        put_into(world.record, "VERSION_CONFLICT")
        for verb in (verb for verb in VERBS if verb in actions):
            statuses = []
            for name, client in clients.items():
                answer = getattr(client, verb)(address(route, ids, world), body_for(route, verb, world))
                statuses.append(f"{name}={answer.status_code}")
                if route.endswith("/resolve/") and answer.status_code == 200:
                    Conflict.objects.filter(pk=ids["conflicts"]).delete()
                    Record.objects.filter(pk=world.record.pk).update(intent="update")
                    ids["conflicts"] = in_conflict(Record.objects.get(pk=world.record.pk)).pk
                Discrepancy.objects.update(state="open")
            lines.append(f"{verb.upper():6} {route}  " + " ".join(statuses))
    found = "\n".join(lines) + "\n"
    if not MATRIX.exists():
        MATRIX.write_text(found)
        pytest.fail("access_matrix.txt was written; review it and run again")
    assert found == MATRIX.read_text()


def test_every_other_verb_is_405(world: World) -> None:
    ids = objects(world)
    client = world.caller("admin")
    for route, actions in routes():
        for verb in {*VERBS, "options"} - set(actions):
            assert getattr(client, verb)(address(route, ids, world), {}).status_code == 405, (verb, route)


def test_every_anonymous_answer_is_401_with_the_scheme(world: World) -> None:
    ids = objects(world)
    for route, actions in routes():
        for verb in actions:
            answer = getattr(APIClient(), verb)(address(route, ids, world))
            assert answer.status_code == 401
            assert answer["WWW-Authenticate"].startswith("Bearer")
            assert answer["Content-Type"] == "application/problem+json"
