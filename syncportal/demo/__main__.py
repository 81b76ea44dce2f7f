"""The demo master's command line: run it, or switch one that runs.

Examples:
  python -m syncportal.demo --port 8900 --accounts 300 --shifts 200
  python -m syncportal.demo fault storm-503
  python -m syncportal.demo fault add timeout_after --collection accounts --id ACC-0001 --times 2
  python -m syncportal.demo fault off
  python -m syncportal.demo edit accounts ACC-0001 city=Porto
"""

import argparse
import json
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from syncportal.demo.client import ControlError, DemoControl
from syncportal.demo.kinds import KINDS, PRESETS
from syncportal.demo.server import DemoMaster
from syncportal.demo.spec import accounts, shifts

DEFAULT_URL = "http://127.0.0.1:8900"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return 0, 1 when the running master refuses or is missing, 2 on a wrong command."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(given if given[:1] and given[0] in ("fault", "edit", "log") else ["serve", *given])
    try:
        return int(options.run(options))
    except ControlError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m syncportal.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the server (the default command)")
    serve.add_argument("--port", type=int, default=8900, help="0 chooses a free one")
    serve.add_argument("--accounts", type=int, default=30)
    serve.add_argument("--shifts", type=int, default=30)
    serve.add_argument("--latency-ms", type=float, default=0)
    serve.add_argument("--write-log", type=Path, help="file that keeps the applied writes; replayed at the next start")
    serve.add_argument("--credential", default="", help="user:password, or bearer:token")
    serve.add_argument("--no-control", action="store_true", help="serve no /_demo/")
    serve.add_argument("--seed", type=int, default=0, help="for faults that strike at a rate")
    serve.set_defaults(run=_serve)
    fault = commands.add_parser("fault", help="switch faults of a running master")
    fault.add_argument("what", help=f"add, list, off, clear, kinds, or a preset: {', '.join(PRESETS)}")
    fault.add_argument("name", nargs="?", default="", help="the kind to add, or the rule to switch off")
    fault.add_argument("--collection", default="")
    fault.add_argument("--id", dest="object_id", default="")
    fault.add_argument("--method", dest="methods", action="append", default=[])
    fault.add_argument("--phase", default="", help="list, detail, create, update, delete, read or write")
    fault.add_argument("--rate", type=float)
    fault.add_argument("--times", type=int)
    fault.add_argument("--skip", type=int)
    fault.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    fault.add_argument("--url", default=DEFAULT_URL)
    fault.set_defaults(run=_fault)
    edit = commands.add_parser("edit", help="change an object as somebody else would")
    edit.add_argument("collection")
    edit.add_argument("object_id")
    edit.add_argument("changes", nargs="+", metavar="FIELD=VALUE", help="the value as JSON, else as text")
    edit.add_argument("--url", default=DEFAULT_URL)
    edit.set_defaults(run=_edit)
    log = commands.add_parser("log", help="print the applied writes, one JSON object a line")
    log.add_argument("--after", type=int, default=0)
    log.add_argument("--url", default=DEFAULT_URL)
    log.set_defaults(run=_log)
    return parser


def _serve(options: argparse.Namespace) -> int:
    master = DemoMaster(
        (accounts(options.accounts), shifts(options.shifts)),
        port=options.port,
        latency_ms=options.latency_ms,
        credential=options.credential,
        write_log=options.write_log,
        control=not options.no_control,
        seed=options.seed,
    )
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    try:
        master.start()
    except OSError as error:
        sys.stderr.write(f"Port {options.port} cannot be used: {error.strerror}\n")
        return 1
    sys.stdout.write(f"Demo master: {master.api_url}\n")
    if not options.no_control:
        sys.stdout.write(f"Switchboard: {master.url}/_demo/\n")
    sys.stdout.flush()
    stopped.wait()
    master.stop()
    return 0


def _fault(options: argparse.Namespace) -> int:
    if options.what == "kinds":
        for name, kind in KINDS.items():
            known = ", ".join(f"{key}={value}" for key, value in kind.settings.items())
            sys.stdout.write(f"{name:16} {kind.says}{f' ({known})' if known else ''}\n")
        return 0
    control = DemoControl(options.url)
    if options.what in ("off", "clear"):
        sys.stdout.write(f"{control.clear_faults(options.name)} switched off\n")
        return 0
    if options.what == "list":
        for listed in control.faults():
            sys.stdout.write(json.dumps(listed) + "\n")
        return 0
    names = ("collection", "object_id", "methods", "phase", "rate", "times", "skip")
    rule: dict[str, Any] = {name: getattr(options, name) for name in names if getattr(options, name)}
    settings = dict(_pair(text) for text in options.set)
    if options.what == "add":
        added = control.add_fault(kind=options.name, settings=settings, **rule)
    else:
        added = control.add_fault(preset=options.what, settings=settings, **rule)
    sys.stdout.write(f"{added['name'] or added['kind']} is on (number {added['number']})\n")
    return 0


def _edit(options: argparse.Namespace) -> int:
    changes = {name: _value(text) for name, text in (_pair(change) for change in options.changes)}
    write = DemoControl(options.url).edit(options.collection, options.object_id, changes)
    sys.stdout.write(f"{options.object_id} is now at version {write['version_after']}\n")
    return 0


def _log(options: argparse.Namespace) -> int:
    for write in DemoControl(options.url).writes(after=options.after):
        sys.stdout.write(json.dumps(write, ensure_ascii=False) + "\n")
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ControlError(f"{text!r} must be written as name=value")
    return name, value


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
