"""Log lines carry no secret and cannot be forged."""

import json
import logging
import logging.config
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog

from syncportal.kernel.logs import logging_config


@pytest.fixture(params=["json", "console"])
def lines(request: pytest.FixtureRequest) -> Iterator[StringIO]:
    """Yield what is written while a logger of the given style is set up; the old set-up comes back afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    kept = structlog.get_config()
    stream = StringIO()
    config = logging_config(style=request.param)
    config["handlers"]["stderr"]["stream"] = stream
    config["loggers"] = {}
    logging.config.dictConfig(config)
    yield stream
    root.handlers[:], root.level = before, level
    structlog.configure(**kept)


def test_values_under_secret_names_never_reach_the_output(lines: StringIO) -> None:
    structlog.get_logger("test").info(
        "remote.called",
        password="canary-1",
        headers={"Authorization": "Bearer canary-2", "Cookie": "sessionid=canary-3"},
        url="https://user:canary-4@example.org/x?api_key=canary-5",
        remote="accounts",
    )
    text = lines.getvalue()
    assert "remote.called" in text
    assert "accounts" in text
    assert "canary" not in text


def test_secrets_inside_the_lines_of_other_libraries_are_masked(lines: StringIO) -> None:
    logging.getLogger("other").warning("calling %s", "https://user:canary@example.org/")
    assert "canary" not in lines.getvalue()


def test_a_line_break_cannot_forge_a_second_line(lines: StringIO) -> None:
    structlog.get_logger("test").info("first\n2026-01-01 [info] forged", name="a\nforged too")
    assert len(lines.getvalue().strip().splitlines()) == 1


def test_a_json_line_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    config = logging_config(style="json")
    formatter = config["formatters"]["line"]
    made = structlog.stdlib.ProcessorFormatter(
        processors=formatter["processors"], foreign_pre_chain=formatter["foreign_pre_chain"]
    )
    record = logging.LogRecord("name", logging.INFO, "path", 1, "it happened", None, None)
    document = json.loads(made.format(record))
    assert document["event"] == "it happened"
    assert document["level"] == "info"
