"""Every paging style against the demo master: all objects arrive once, in order, and bad paging is refused."""

from collections.abc import Iterator

import pytest

from syncportal.demo import Collection, DemoMaster, accounts
from syncportal.remote.client import Deadline
from syncportal.remote.errors import InvalidResponse, Rejected, RemoteError
from tests.remote.masters import client_of, contents, read_all

COUNT = 23


@pytest.fixture(autouse=True)
def loopback_allowed(settings) -> None:
    settings.REMOTE_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.fixture(scope="module")
def master() -> Iterator[DemoMaster]:
    with DemoMaster([]) as running:
        yield running


def serve(master: DemoMaster, **options) -> Collection:
    collection = accounts(COUNT, page_size=5, **options)
    master.reset([collection])
    return collection


def listing(page: dict, **knobs) -> dict:
    return {
        "list": {"path": "/accounts/", "items": "/items", "page": page, **knobs},
        "detail": {"path": "/accounts/{0}"},
        "id": ["/id"],
        "version": {"from": "body", "pointer": "/version"},
    }


SIZE = {"size_param": "limit", "size": 5}
OFFSET = {"style": "offset", "param": "offset"}
BODY_URL = {"style": "body_url", "pointer": "/next"}
STYLES = {
    "none": ({"paging": "none"}, {"style": "none"}, {}),
    "offset with total": ({"paging": "offset"}, {**OFFSET, "total": "/total", **SIZE}, {}),
    "offset without total": ({"paging": "offset"}, OFFSET, {}),
    "offset from 1": ({"paging": "offset", "offset_start": 1}, {**OFFSET, "start": 1, "total": "/total"}, {}),
    "page counting rows": ({"paging": "page"}, {"style": "page", "param": "page", "start": 1, "total": "/total"}, {}),
    "page counting pages": ({"paging": "page"}, {"style": "page", "param": "page", "start": 1, "total": "/pages"}, {}),
    "page until empty": ({"paging": "page"}, {"style": "page", "param": "page"}, {}),
    "body cursor": ({"paging": "cursor"}, {"style": "body_cursor", "pointer": "/next_cursor", "param": "cursor"}, {}),
    "last id with more": ({"paging": "last_id"}, {"style": "last_id", "param": "after", "more": "/more"}, {}),
    "last id until empty": ({"paging": "last_id"}, {"style": "last_id", "param": "after"}, {}),
    "link header": ({"paging": "link", "items_key": ""}, {"style": "link_header"}, {"items": ""}),
    "header url": ({"paging": "header_url"}, {"style": "header_url", "name": "Next-Page"}, {}),
    "header params": (
        {"paging": "header_params"},
        {"style": "header_params", "map": {"X-Next-Offset": "offset"}, "total": "X-Total"},
        {},
    ),
    "body url": ({"paging": "next_url"}, BODY_URL, {}),
    "body url below the request": (
        {"paging": "next_url", "next_form": "request"},
        {**BODY_URL, "relative_to": "request"},
        {},
    ),
    "body url from the host": ({"paging": "next_url", "next_form": "host"}, BODY_URL, {}),
    "body url below the base": ({"paging": "next_url", "next_form": "base"}, {**BODY_URL, "relative_to": "base"}, {}),
    "rows inside items": ({"paging": "offset", "row_key": "resource"}, OFFSET, {"row": "/resource"}),
    "stubs": ({"paging": "offset", "stub_rows": True}, OFFSET, {"stub": True}),
}


@pytest.mark.parametrize("name", STYLES)
def test_every_paging_style_delivers_each_object_once_in_order(master, name) -> None:
    options, page, knobs = STYLES[name]
    serve(master, **options)
    found = read_all(client_of(listing(page, **knobs), base_url=master.api_url))
    ids = [item.external_id for item in found]
    assert len(ids) == len(set(ids)) == COUNT
    assert ids == sorted(ids)
    assert all(item.version == "1" and item.data["email"] for item in found)


def test_a_silent_page_cap_loses_nothing(master) -> None:
    serve(master, paging="page", max_page_size=4)
    page = {"style": "page", "param": "page", "start": 1, "size_param": "limit", "size": 500}
    assert len(read_all(client_of(listing(page), base_url=master.api_url))) == COUNT


def test_a_next_link_to_another_host_is_refused(master) -> None:
    serve(master, paging="next_url")
    master.faults.add("page_other_host")
    client = client_of(listing({"style": "body_url", "pointer": "/next"}), base_url=master.api_url)
    with pytest.raises(InvalidResponse, match="another host"):
        client.list_page(None, deadline=Deadline(5))


def test_an_ignored_paging_parameter_is_an_error_and_no_endless_list(master) -> None:
    serve(master, paging="page")
    client = client_of(listing({"style": "page", "param": "pageNumber"}), base_url=master.api_url)
    with pytest.raises(InvalidResponse, match="repeats the one before"):
        read_all(client)


def test_a_wrong_items_pointer_names_the_knob(master) -> None:
    serve(master)
    client = client_of(listing({"style": "none"}, items="/data"), base_url=master.api_url)
    with pytest.raises(InvalidResponse, match=r"list\.items") as failure:
        client.list_page(None, deadline=Deadline(5))
    assert failure.value.exchange is not None
    assert failure.value.exchange.error == "invalid_response"


def test_a_forged_cursor_is_refused_without_a_request(master) -> None:
    serve(master)
    client = client_of(listing({"style": "none"}), base_url=master.api_url)
    for cursor in ("x", "", "bm9wZQ==", "W10="):
        with pytest.raises(RemoteError) as failure:
            client.list_page(cursor, deadline=Deadline(5))
        assert failure.value.code == "bad_cursor"


def test_a_cursor_to_another_host_is_refused_before_anything_is_sent(master) -> None:
    import base64
    import json

    cursor = base64.urlsafe_b64encode(json.dumps(["http://other.invalid/x", {}, 5, "m", ""]).encode()).decode()
    with pytest.raises(Rejected) as failure:
        client_of(listing({"style": "none"}), base_url=master.api_url).list_page(cursor, deadline=Deadline(5))
    assert failure.value.code == "paging"


def test_rows_without_an_id_are_problems_and_not_crashes(master) -> None:
    serve(master)
    config = {**listing({"style": "none"}), "id": ["/nothing"]}
    page = client_of(config, base_url=master.api_url).list_page(None, deadline=Deadline(5))
    assert page.objects == ()
    assert page.problems[0] == "row 1 has no usable id at /nothing"


def test_a_lookup_finds_by_natural_key_and_compares_itself(master) -> None:
    serve(master)
    wanted = list(contents(master, "accounts").values())[-1]
    config = {**listing({"style": "offset", "param": "offset"}), "create": {"lookup": {"email": "/email"}}}
    found, _ = client_of(config, base_url=master.api_url).lookup({"email": wanted["email"]}, deadline=Deadline(5))
    assert [item.external_id for item in found] == [wanted["id"]]
    ignored = {**config, "create": {"lookup": {"unknown_filter": "/email"}}}
    found, _ = client_of(ignored, base_url=master.api_url).lookup({"email": wanted["email"]}, deadline=Deadline(5))
    assert [item.external_id for item in found] == [wanted["id"]], "the filter is ignored, so every page is compared"
