"""One id goes with an edit through the web, the tables, the worker's log and the call to the remote."""

import json
import logging
import logging.config
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from syncportal.demo import DemoMaster
from syncportal.kernel import correlation
from syncportal.kernel.logs import logging_config
from syncportal.sync.models import Event, SyncLog
from tests.admin.conftest import loopback_is_allowed, master, running_master
from tests.api.world import caller, person
from tests.factories import drain, make_resource, take

__all__ = ["loopback_is_allowed", "master", "running_master"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def lines() -> Iterator[StringIO]:
    """Yield what is logged as JSON meanwhile; the old set-up comes back afterwards."""
    root, kept = logging.getLogger(), structlog.get_config()
    before, level = list(root.handlers), root.level
    stream = StringIO()
    config = logging_config(style="json")
    config["handlers"]["stderr"]["stream"] = stream
    config["loggers"] = {}
    logging.config.dictConfig(config)
    yield stream
    root.handlers[:], root.level = before, level
    structlog.configure(**kept)


def told(lines: StringIO, event: str) -> dict[str, object]:
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    return next(line for line in found if line["event"] == event)


def test_an_edit_can_be_followed_from_the_request_to_the_remote(master: DemoMaster, lines: StringIO) -> None:
    record = take(master, make_resource(master), "ACC-0001", owner=person("olga", "Record owners"))[0]
    client = caller(record.owner)
    headers = {"X-Request-ID": "trace-77"}
    answer = client.patch(f"/api/v1/records/{record.pk}/", {"data": {"city": "Lund"}}, headers=headers, format="json")
    assert answer.status_code in (200, 202) and answer["X-Request-ID"] == "trace-77"
    drain()
    assert told(lines, "request_finished")["request_id"] == "trace-77"
    assert [write.request_id for write in master.writes()] == ["trace-77"]
    assert {log.correlation_id for log in SyncLog.objects.all()} == {"trace-77"}
    assert set(Event.objects.values_list("kind", "correlation_id")) >= {
        ("record.edited", "trace-77"),
        ("sync.succeeded", "trace-77"),
    }


def test_the_workers_line_about_a_failure_names_the_edit(master: DemoMaster, lines: StringIO) -> None:
    record = take(master, make_resource(master), "ACC-0001", owner=person("olga", "Record owners"))[0]
    master.faults.add("status", status=422)
    headers = {"X-Request-ID": "trace-78"}
    caller(record.owner).patch(
        f"/api/v1/records/{record.pk}/", {"data": {"city": "Secret street 4"}}, headers=headers, format="json"
    )
    drain()
    line = told(lines, "attempt.ended")
    assert line["correlation_id"] == "trace-78"
    assert (line["verb"], line["error"], line["record_id"], line["level"]) == ("fail", "http_422", record.pk, "warning")
    assert "Secret street" not in lines.getvalue()


def test_lines_within_a_work_carry_its_id(lines: StringIO) -> None:
    with correlation.correlated("work-9"):
        structlog.get_logger("test").info("something.done")
    structlog.get_logger("test").info("something.else")
    assert told(lines, "something.done")["correlation_id"] == "work-9"
    assert "correlation_id" not in told(lines, "something.else")
