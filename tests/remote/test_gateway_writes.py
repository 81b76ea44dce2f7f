"""Every write knob against the demo master: the master's own contents and write log are the truth."""

from collections.abc import Iterator

import pytest

from syncportal.demo import DemoMaster, accounts, shifts
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict, Missing, Rejected, Unauthorized
from tests.remote.masters import client_of, contents

READ_ONLY = ["/updated_at"]


@pytest.fixture(autouse=True)
def loopback_allowed(settings) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture(scope="module")
def master() -> Iterator[DemoMaster]:
    with DemoMaster([]) as running:
        yield running


def config(**knobs) -> dict:
    return {
        "list": {"path": "/accounts/", "items": "/items"}, "detail": {"path": "/accounts/{0}"}, "id": ["/id"],
        "version": {"from": "body", "pointer": "/version"}, "precondition": {"send": "if_match"},
        "read_only": READ_ONLY, **knobs,
    }  # fmt: skip


def soon() -> Deadline:
    return Deadline(5)


def first(master: DemoMaster, name: str = "accounts") -> str:
    return sorted(contents(master, name))[0]


ETAG = {"version": {"from": "etag"}}
PRECONDITIONS = {
    "if_match with quotes": ({}, {}),
    "etag sent as it came": ({"version": "etag"}, {**ETAG, "precondition": {"send": "if_match", "format": "{}"}}),
    "version in the body": (
        {"precondition": "body", "precondition_param": "seen"}, {"precondition": {"send": "body", "pointer": "/seen"}},
    ),
    "version in the query": (
        {"precondition": "query", "precondition_param": "rev"}, {"precondition": {"send": "query", "param": "rev"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PRECONDITIONS)
def test_a_stale_write_is_a_conflict_and_a_fresh_one_is_applied(master, name) -> None:
    options, knobs = PRECONDITIONS[name]
    master.reset([accounts(3, **options)])
    client, target = client_of(config(**knobs), base_url=master.api_url), first(master)
    base = client.read(target, deadline=soon()).object
    data = {**base.data, "name": "Renamed"}
    assert base.version
    result = client.update(target, data=data, base=base.data, expected_version=base.version, deadline=soon())
    assert result.object is not None
    assert result.object.data["name"] == "Renamed"
    with pytest.raises(Conflict):
        client.update(target, data=data, base=base.data, expected_version=base.version, deadline=soon())
    with pytest.raises(Conflict):
        client.delete(target, expected_version=base.version, base=base.data, deadline=soon())
    client.delete(target, expected_version=result.object.version, base=data, deadline=soon())
    assert target not in contents(master, "accounts")


def test_if_unmodified_since_sends_an_http_date(master) -> None:
    master.reset([accounts(2, version_style="timestamp", precondition="if_unmodified_since")])
    client = client_of(config(precondition={"send": "if_unmodified_since"}), base_url=master.api_url)
    target = first(master)
    base = client.read(target, deadline=soon()).object
    done = client.update(
        target, data={**base.data, "name": "New"}, base=base.data, expected_version=base.version, deadline=soon()
    )
    assert done.answer.exchange.request_headers["If-Unmodified-Since"].endswith(" GMT")
    with pytest.raises(Conflict):
        client.update(target, data=base.data, base=base.data, expected_version="2001-01-01T00:00:00Z", deadline=soon())


def test_nothing_is_written_when_the_precondition_has_no_version(master) -> None:
    master.reset([accounts(2)])
    client = client_of(config(), base_url=master.api_url)
    for call in (
        lambda: client.update(first(master), data={}, base={}, expected_version=None, deadline=soon()),
        lambda: client.delete(first(master), expected_version=None, deadline=soon()),
    ):
        with pytest.raises(Conflict) as failure:
            call()
        assert failure.value.code == "version_unknown"
        assert not failure.value.maybe_applied
    assert master.writes() == []


def test_replace_sends_everything_but_read_only_and_the_version(master) -> None:
    master.reset([accounts(2, refuse_read_only=True)])
    client, target = client_of(config(), base_url=master.api_url), first(master)
    base = client.read(target, deadline=soon()).object
    sent = client.update(
        target, data={**base.data, "city": None}, base=base.data, expected_version=base.version, deadline=soon()
    ).answer.exchange.request_body
    assert '"version"' not in sent
    assert '"updated_at"' not in sent
    assert '"city":null' in sent
    assert '"email"' in sent


def merging(**knobs) -> dict:
    return {
        "list": {"path": "/shifts/", "items": "/items"}, "detail": {"path": "/shifts/{0}"}, "id": ["/id"],
        "version": {"from": "body", "pointer": "/version"}, "precondition": {"send": "if_match"},
        "update": {"method": "PATCH", "semantics": "merge"}, "read_only": READ_ONLY, **knobs,
    }  # fmt: skip


def test_merge_sends_only_what_differs_and_null_for_what_was_removed(master) -> None:
    master.reset([shifts(2)])
    client, target = client_of(merging(), base_url=master.api_url), first(master, "shifts")
    base = client.read(target, deadline=soon()).object
    data = {name: value for name, value in base.data.items() if name != "site"} | {"seats": 9}
    exchange = client.update(
        target, data=data, base=base.data, expected_version=base.version, deadline=soon()
    ).answer.exchange
    assert exchange.request_body == '{"seats":9,"site":null}'
    assert contents(master, "shifts")[target].get("site") is None
    assert contents(master, "shifts")[target]["seats"] == 9


def test_wrapped_reads_and_writes(master) -> None:
    master.reset([shifts(2, wrap="data")])
    knobs = merging(detail={"path": "/shifts/{0}", "item": "/data"})
    knobs["update"]["wrap"] = ["data"]
    client, target = client_of(knobs, base_url=master.api_url), first(master, "shifts")
    base = client.read(target, deadline=soon()).object
    done = client.update(
        target, data={**base.data, "seats": 4}, base=base.data, expected_version=base.version, deadline=soon()
    )
    assert done.object is not None
    assert done.object.data["seats"] == 4
    made = client.create({"code": "NEW", "title": "New", "seats": 1}, deadline=soon())
    assert made.object is not None
    assert made.object.external_id in contents(master, "shifts")


def test_form_encoded_writes(master) -> None:
    master.reset([shifts(2, encoding="form")])
    knobs = merging()
    knobs["update"]["encoding"] = "form"
    client, target = client_of(knobs, base_url=master.api_url), first(master, "shifts")
    base = client.read(target, deadline=soon()).object
    client.update(
        target, data={**base.data, "seats": 7, "confirmed": True}, base=base.data, expected_version=base.version,
        deadline=soon(),
    )  # fmt: skip
    assert contents(master, "shifts")[target]["seats"] == 7
    assert contents(master, "shifts")[target]["confirmed"] is True


@pytest.mark.parametrize("answer", ["empty", "stub"])
def test_a_write_whose_answer_does_not_show_the_object_says_so_and_still_names_a_new_id(master, answer) -> None:
    master.reset([shifts(2, write_answer=answer)])
    client, target = client_of(merging(), base_url=master.api_url), first(master, "shifts")
    base = client.read(target, deadline=soon()).object
    done = client.update(
        target, data={**base.data, "seats": 7}, base=base.data, expected_version=base.version, deadline=soon()
    )
    assert done.object is None
    made = client.create({"code": "NEW", "title": "New", "seats": 1}, deadline=soon())
    assert made.object is None
    assert made.external_id in contents(master, "shifts")


def test_a_client_id_never_overwrites(master) -> None:
    master.reset([accounts(2, create="client")])
    knobs = config(create={"method": "PUT", "id": "client"})
    client, taken = client_of(knobs, base_url=master.api_url), first(master)
    new = {"name": "A", "email": "a@example.org", "tier": "gold", "active": True}
    with pytest.raises(Conflict):
        client.create(new, external_id=taken, deadline=soon())
    made = client.create(new, external_id="MY-1", deadline=soon())
    assert made.external_id == "MY-1"
    assert contents(master, "accounts")["MY-1"]["email"] == "a@example.org"


def test_the_same_idempotency_key_makes_one_object(master) -> None:
    master.reset([accounts(0, idempotency_header="Idempotency-Key")])
    client = client_of(config(idempotency_header="Idempotency-Key"), base_url=master.api_url)
    new = {"name": "A", "email": "a@example.org", "tier": "gold", "active": True}
    ids = {client.create(new, idempotency_key="k1", deadline=soon()).external_id for _ in range(2)}
    assert len(ids) == len(contents(master, "accounts")) == 1


AWKWARD = ["a/b", "O'Brien", 'q"uote', "two words", "tag:%3A", "ünï", "a?b#c", "50%", "a+b&c=d", "|pipe"]


@pytest.mark.parametrize("part", AWKWARD)
def test_awkward_ids_reach_the_right_object(master, part) -> None:
    row = {"site": part, "id": part[::-1], "title": "T", "version": 1}
    collection = shifts(0, id_fields=("site", "id"), rows=(row,), create="client")
    master.reset([collection.having(schema={})])
    knobs = merging(id=["/site", "/id"], detail={"path": "/shifts/{0}/{1}"})
    client = client_of(knobs, base_url=master.api_url)
    listed = client.list_page(None, deadline=soon()).objects[0]
    assert client.spec.id_parts(listed.external_id) == (part, part[::-1])
    read = client.read(listed.external_id, deadline=soon()).object
    assert read.external_id == listed.external_id
    client.update(
        listed.external_id, data={**read.data, "title": "New"}, base=read.data, expected_version=read.version,
        deadline=soon(),
    )  # fmt: skip
    assert [row["title"] for row in contents(master, "shifts").values()] == ["New"]


@pytest.mark.parametrize("bad", ["", ".", ".."])
def test_an_id_that_would_change_the_path_is_refused_before_anything_is_sent(master, bad) -> None:
    master.reset([accounts(2)])
    with pytest.raises(Rejected) as failure:
        client_of(config(), base_url=master.api_url).delete(bad, expected_version="1", deadline=soon())
    assert failure.value.code == "bad_id"
    assert master.writes() == []


def test_a_tombstone_reads_as_missing_and_is_marked_in_lists(master) -> None:
    master.reset([accounts(2, tombstone=("state", "deleted"), list_tombstones=True)])
    client, target = client_of(config(tombstone={"/state": "deleted"}), base_url=master.api_url), first(master)
    base = client.read(target, deadline=soon()).object
    client.delete(target, expected_version=base.version, deadline=soon())
    with pytest.raises(Missing) as failure:
        client.read(target, deadline=soon())
    assert failure.value.code == "tombstone"
    marked = {item.external_id for item in client.list_page(None, deadline=soon()).objects if item.tombstone}
    assert marked == {target}


def test_gone_statuses_are_configurable(master) -> None:
    master.reset([accounts(1)])
    with pytest.raises(Rejected):
        client_of(config(gone=[410]), base_url=master.api_url).read("NOPE", deadline=soon())


@pytest.mark.parametrize(
    ("auth", "secret"),
    [
        ({"kind": "basic", "credential": "stored"}, "user:pass"),
        ({"kind": "header", "credential": "stored", "prefix": "Basic"}, "dXNlcjpwYXNz"),
        ({"kind": "hook", "hook": "tests.remote.hooks:sign", "credential": "stored"}, "user:pass"),
    ],
)
def test_credentials_are_sent_and_never_stored(auth, secret) -> None:
    with DemoMaster([accounts(1)], credential="user:pass") as guarded:
        client = client_of(config(), base_url=guarded.api_url, secret=secret, auth=auth)
        answer = client.read(first(guarded), deadline=soon()).answer
        assert secret not in repr(answer.exchange)
        assert "pass" not in repr(client.credentials)
        wrong = client_of(config(), base_url=guarded.api_url, secret="user:wrong", auth=auth)
        with pytest.raises(Unauthorized) as failure:
            wrong.read(first(guarded), deadline=soon())
        assert "user:wrong" not in str(failure.value) + repr(failure.value.exchange)
