"""Grouped updates against a running portal and demo master, to watch in the admin what becomes of them.

Owns: four requests on a few shifts and the faults that decide their fate. Guarantees: only these shifts are touched,
and every fault ends by itself. Does not: use anything that a client could not use.

Examples:
  python -m syncportal.demo.groups --key KEY                 # one of each
  python -m syncportal.demo.groups --key KEY healed          # the undo fails once, the worker finishes it
  python -m syncportal.demo.groups --key KEY stuck           # somebody else interferes: a person must decide
"""

import argparse
import http.client
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from syncportal.demo.client import ControlError, DemoControl

WATCH_S = 60.0
POLL_S = 1.0
PATH = "/api/v1/grouped-updates/"
Say = Callable[[str], None]
Answer = dict[str, Any]


class PortalError(Exception):
    """The portal is not there or refused the request; the message says which."""


@dataclass(frozen=True, slots=True)
class Portal:
    """A client of the portal's API. url: such as http://127.0.0.1:8000."""

    url: str
    key: str
    timeout_s: float = 40.0

    def send(self, body: Mapping[str, Any]) -> Answer:
        """Send a grouped update and return its answer; raises PortalError."""
        return self._call("POST", PATH, json.dumps(body))

    def read(self, request_id: str) -> Answer:
        """Return what a request has become."""
        return self._call("GET", f"{PATH}{quote(request_id, safe='')}/")

    def _call(self, method: str, path: str, body: str | None = None) -> Answer:
        split = urlsplit(self.url)
        kind = http.client.HTTPSConnection if split.scheme == "https" else http.client.HTTPConnection
        connection = kind(split.hostname or "", split.port, timeout=self.timeout_s)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            document = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise PortalError(f"No portal answers at {self.url}: {error}") from error
        finally:
            connection.close()
        if response.status not in (200, 207):
            raise PortalError(f"{response.status} {document.get('code', '')}: {document.get('detail', '')}")
        return dict(document)


def _body(*shifts: str) -> dict[str, Any]:
    number = random.randrange(16**8)
    site = f"Hall {number % 90 + 10}"
    updates = [{"occurrenceId": shift, "changes": {"site": site, "seats": 4}} for shift in shifts]
    groups = [{"groupId": "move", "updates": updates}]
    return {"requestId": f"demo-{number:08x}", "resource": "shifts", "groups": groups}


def _refuse(control: DemoControl, shift: str) -> None:
    """Have the master refuse the next write of a shift."""
    settings = {"status": 422, "body": {"error": "This shift is locked."}}
    control.add_fault(kind="status", collection="shifts", object_id=shift, phase="write", times=1, settings=settings)


def _fail_undo(control: DemoControl, shift: str) -> None:
    """Have the master fail the write after the next one: the undo."""
    rule = {"collection": "shifts", "object_id": shift, "phase": "write", "skip": 1, "times": 1}
    control.add_fault(kind="status", settings={"status": 503}, **rule)


def succeeds(portal: Portal, control: DemoControl) -> Answer:
    """Change two shifts as one; both are applied."""
    return portal.send(_body("SH-0001", "SH-0002"))


def undone(portal: Portal, control: DemoControl) -> Answer:
    """Have the second of three steps refused; the first is undone within the request."""
    _refuse(control, "SH-0004")
    return portal.send(_body("SH-0003", "SH-0004", "SH-0010"))


def healed(portal: Portal, control: DemoControl) -> Answer:
    """Have the second step refused and the first one's undo fail; the worker finishes it some seconds later."""
    _refuse(control, "SH-0006")
    _fail_undo(control, "SH-0005")
    return portal.send(_body("SH-0005", "SH-0006"))


def stuck(portal: Portal, control: DemoControl) -> Answer:
    """The same, and somebody else changes the object before the worker comes: a person must decide."""
    _refuse(control, "SH-0009")
    _fail_undo(control, "SH-0008")
    answer = portal.send(_body("SH-0008", "SH-0009"))
    control.edit("shifts", "SH-0008", {"site": "Somewhere else"})
    return answer


CASES: dict[str, Callable[[Portal, DemoControl], Answer]] = {
    "succeeds": succeeds, "undone": undone, "healed": healed, "stuck": stuck,
}  # fmt: skip


def told(answer: Answer) -> str:
    """Return an answer in one line."""
    [group] = answer["groups"]
    steps = ", ".join(f"{result['occurrenceId']} {result['status']}" for result in group["results"])
    return f"{answer['status']} (rolledBack {json.dumps(answer['rolledBack'])}): {steps}"


def watch(portal: Portal, answer: Answer, say: Say) -> Answer:
    """Follow a request until no task is open, and return what it has become."""
    until = time.monotonic() + WATCH_S
    while answer["reconciliationQueued"] and time.monotonic() < until:
        time.sleep(POLL_S)
        later = portal.read(answer["requestId"])
        if later["status"] != answer["status"]:
            say(f"  … {told(later)}")
        answer = later
    return answer


def main(arguments: list[str] | None = None) -> int:
    """Run the cases; return 0, or 1 when the portal or the master is missing or refuses."""
    parser = argparse.ArgumentParser(
        prog="python -m syncportal.demo.groups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", default=[], metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="of the portal")
    parser.add_argument("--key", required=True, help="an API key with the scopes read and write")
    parser.add_argument("--master", default="http://127.0.0.1:8900", help="of the demo master")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.cases if name not in CASES]
    if unknown:
        parser.error(f"there is no case {unknown[0]!r}; there are {', '.join(CASES)}")

    def say(text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    try:
        portal, control = Portal(options.url, options.key), DemoControl(options.master)
        for name in options.cases or CASES:
            answer = CASES[name](portal, control)
            say(f"{name}: {told(answer)}")
            watch(portal, answer, say)
    except (PortalError, ControlError) as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
