"""The logs, the control API, the switchboard page and the command line of the demo master."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

import pytest

import syncportal.demo
from syncportal.demo import DemoControl, DemoMaster, accounts, shifts
from syncportal.demo.__main__ import main
from syncportal.demo.client import ControlError
from syncportal.demo.docs import fault_table
from tests.demo.asking import ACCOUNT, ask

ONE = "/accounts/ACC-0001"


# ── logs ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_applied_write_is_logged_once_and_in_order(master):
    ask(master, "PUT", ONE, ACCOUNT, If_Match='"1"', X_Request_ID="r-1", Idempotency_Key="k-1")
    ask(master, "PUT", ONE, ACCOUNT, If_Match='"1"')
    master.edit("accounts", "ACC-0001", {"city": "Lund"})
    ask(master, "DELETE", ONE)
    first, second, third = master.writes()
    assert (first.seq, first.method, first.actor, first.version_before, first.version_after) == (
        1,
        "PUT",
        "client",
        1,
        2,
    )
    assert (first.if_match, first.request_id, first.idempotency_key) == ('"1"', "r-1", "k-1")
    assert (first.before["email"], first.after["email"]) == ("account0001@example.org", "new@example.org")
    assert (second.actor, second.before, second.after["city"]) == ("outside", first.after, "Lund")
    assert (third.method, third.after, third.version_after) == ("DELETE", None, None)
    assert [write.seq for write in master.writes(after=1, actor="client")] == [3]
    assert first.at < second.at < third.at


def test_requests_are_logged_with_status_fault_and_write(master):
    master.faults.add("503", times=1)
    ask(master, "GET", ONE, X_Request_ID="r-9")
    ask(master, "PUT", ONE, ACCOUNT)
    ask(master, "GET", "/_demo/state")
    refused, written = master.requests()
    assert (refused.status, refused.faults, refused.request_id, refused.phase) == (503, ("status",), "r-9", "detail")
    assert (written.status, written.write_seq, written.object_id) == (200, 1, "ACC-0001")
    assert written.answered_at >= written.at
    assert master.requests(method="PUT") == [written]
    assert master.requests(after=refused.number) == [written]


def test_the_write_log_file_carries_the_contents_over_a_restart(start, tmp_path):
    path = tmp_path / "writes.jsonl"
    options = {"tombstone": ("notes", "deleted")}
    master = start(accounts(5, **options), shifts(2), write_log=path)
    ask(master, "PUT", ONE, ACCOUNT)
    ask(master, "POST", "/shifts/", {"code": "N", "title": "New", "seats": 1})
    ask(master, "DELETE", "/shifts/SH-0001")
    ask(master, "DELETE", "/accounts/ACC-0002")
    contents, writes = (master.store.all("accounts"), master.store.all("shifts")), master.writes()
    master.stop()
    path.write_bytes(path.read_bytes() + b'{"seq": 5, "torn')
    again = start(accounts(5, **options), shifts(2), write_log=path)
    assert (again.store.all("accounts"), again.store.all("shifts")) == contents
    assert again.writes() == writes
    assert ask(again, "PUT", ONE, ACCOUNT, If_Match='"2"').json["version"] == 3
    assert ask(again, "PUT", "/accounts/ACC-0002", ACCOUNT).status == 404
    assert [json.loads(line)["seq"] for line in path.read_text().splitlines()] == [1, 2, 3, 4, 5]


def test_threads_never_lose_or_double_a_write(start):
    from concurrent.futures import ThreadPoolExecutor

    master = start(shifts(1))

    def bump(number):
        return ask(master, "PATCH", "/shifts/SH-0001", {"seats": number}).json["version"]

    with ThreadPoolExecutor(8) as pool:
        outside = [pool.submit(master.edit, "shifts", "SH-0001", {"rate": n}) for n in range(100)]
        versions = list(pool.map(bump, range(100)))
    versions += [done.result().version_after for done in outside]
    assert sorted(versions) == list(range(2, 202))
    chain = master.writes()
    assert all(later.before == earlier.after for earlier, later in zip(chain, chain[1:], strict=False))


# ── control API ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_client_switches_and_edits_over_http(master):
    control = DemoControl(master.url)
    number = control.add_fault(kind="429", retry_after="3", object_id="ACC-0001")["number"]
    assert ask(master, "GET", ONE).headers["retry-after"] == "3"
    assert control.faults()[0]["hits"] == 1
    assert control.clear_faults(str(number)) == 1
    control.add_fault(script=["500", None], collection="shifts")
    control.add_fault(preset="storm-503")
    assert control.clear_faults() == 2
    control.edit("accounts", "ACC-0001", {"city": "Lund"})
    made = control.create("shifts", {"code": "N", "title": "New", "seats": 1})["object_id"]
    control.delete("shifts", made)
    assert [write["actor"] for write in control.writes(after=1)] == ["outside", "outside"]
    assert control.state("accounts")["ACC-0001"]["city"] == "Lund"
    assert len(control.requests()) == 1
    control.reset([{"name": "accounts", "count": 3, "paging": "page"}])
    assert (len(control.state("accounts")), control.writes(), control.requests()) == (3, [], [])


def test_wrong_commands_are_refused_with_a_sentence(master):
    control = DemoControl(master.url)
    for wrong, says in (
        (lambda: control.add_fault(kind="flood"), "unknown fault 'flood'"),
        (lambda: control.edit("nothing", "1", {}), "no collection 'nothing'"),
        (lambda: control.edit("accounts", "NO", {}), "NO is not in accounts"),
        (lambda: control.edit("accounts", "ACC-0001", {"tier": "iron"}), "tier must be one of"),
        (lambda: control.reset([{"name": "accounts", "pages": 1}]), "unknown option 'pages'"),
    ):
        with pytest.raises(ControlError, match=says):
            wrong()
    assert ask(master, "POST", "/_demo/faults", "{").status == 400
    assert ask(master, "POST", "/_demo/edit", "[]").status == 400
    assert ask(master, "POST", "/_demo/edit", {"id": 1}).status == 400
    assert ask(master, "GET", "/_demo/log?after=x").status == 400
    assert ask(master, "PUT", "/_demo/faults").status == 405
    assert ask(master, "GET", "/_demo/nothing").status == 404


def test_foreign_pages_and_host_names_cannot_switch_anything(master):
    rule = {"kind": "500"}
    assert ask(master, "POST", "/_demo/faults", rule, Origin="http://evil.example").status == 403
    assert ask(master, "POST", "/_demo/faults", rule, Host="evil.example").status == 403
    assert ask(master, "POST", "/_demo/faults", rule, Origin=master.url).status == 201


def test_the_control_api_can_be_left_out_and_the_server_is_on_loopback_only(start):
    master = start(control=False)
    assert ask(master, "GET", "/_demo/").status == 404
    assert master.url.startswith("http://127.0.0.1:")


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def post(master, path, **form):
    return ask(master, "POST", path, urlencode(form), Content_Type="application/x-www-form-urlencoded")


def test_the_page_switches_faults_on_and_off_with_plain_forms(master):
    page = ask(master, "GET", "/_demo/")
    assert "script" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert b"<script" not in page.body
    assert not re.search(rb' (style|on\w+)="', page.body)
    assert post(master, "/_demo/switch", preset="storm-503", collection="", object_id="", times="").status == 303
    assert ask(master, "GET", ONE).status == 503
    assert "storm-503" in ask(master, "GET", "/_demo/").body.decode()
    assert post(master, "/_demo/switch", off="all").status == 303
    post(master, "/_demo/switch", preset="unauthorized", collection="accounts", object_id="ACC-0001", times="1")
    assert [ask(master, "GET", path).status for path in ("/accounts/ACC-0002", ONE, ONE)] == [200, 401, 200]
    assert ask(master, "GET", "/_demo/style.css").headers["content-type"].startswith("text/css")


def test_the_page_edits_by_type_and_escapes_everything(master):
    evil = "<img src=x onerror=alert(1)>"
    post(master, "/_demo/change", collection="shifts", id="SH-0001", field="seats", value="42")
    post(master, "/_demo/change", collection="shifts", id="SH-0001", field="title", value=evil)
    assert (master.get("shifts", "SH-0001")["seats"], master.get("shifts", "SH-0001")["title"]) == (42, evil)
    ask(master, "GET", "/accounts/%3Cscript%3E")
    refused = post(master, "/_demo/change", collection="shifts", id=evil, field="seats", value="1")
    page = ask(master, "GET", refused.headers["location"]).body.decode()
    assert evil not in page
    assert "&lt;img" in page
    post(master, "/_demo/change", collection="shifts", id="SH-0001", field="", value="1")
    assert "" not in master.get("shifts", "SH-0001")
    post(master, "/_demo/change", collection="shifts", id="SH-0001", field="", value="", delete="1")
    assert master.get("shifts", "SH-0001") is None


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_command_line_switches_a_running_master(master, capsys):
    url = ["--url", master.url]
    assert main(["fault", "storm-503", *url]) == 0
    assert ask(master, "GET", ONE).status == 503
    assert main(["fault", "off", *url]) == 0
    assert main(["fault", "add", "status", "--set", "status=418", "--id", "ACC-0001", "--times", "1", *url]) == 0
    assert main(["fault", "list", *url]) == 0
    assert ask(master, "GET", ONE).status == 418
    assert main(["edit", "accounts", "ACC-0001", "city=Porto", "credit=7.5", *url]) == 0
    assert master.get("accounts", "ACC-0001")["credit"] == 7.5
    assert main(["log", *url]) == 0
    assert main(["fault", "kinds"]) == 0
    printed = capsys.readouterr().out
    assert "storm-503 is on" in printed
    assert "gzip_bomb" in printed
    assert main(["fault", "nonsense", *url]) == 1
    assert main(["edit", "accounts", "ACC-0001", "city", *url]) == 1
    assert "unknown preset 'nonsense'" in capsys.readouterr().err


def test_no_master_there_is_a_sentence_not_a_traceback(master, capsys):
    master.go_down()
    assert main(["fault", "list", "--url", master.url]) == 1
    assert "No demo master answers" in capsys.readouterr().err


def test_the_server_process_survives_kill_with_its_log_and_ends_on_sigterm(tmp_path):
    command = [sys.executable, "-m", "syncportal.demo", "--port", "0", "--accounts", "3", "--shifts", "1"]
    command += ["--write-log", str(tmp_path / "log.jsonl"), "--credential", "u:p", "--latency-ms", "1"]
    root = Path(syncportal.demo.__file__).parents[2]
    for number, last_signal in ((1, signal.SIGKILL), (2, signal.SIGTERM)):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ}) as process:
            url = process.stdout.readline().split()[-1].removesuffix("/api")
            control = DemoControl(url)
            assert len(control.writes()) == number - 1
            control.edit("accounts", "ACC-0001", {"credit": number})
            process.send_signal(last_signal)
            assert process.wait(5) == (-9 if last_signal == signal.SIGKILL else 0)


def test_a_taken_port_is_told_plainly(master, capsys):
    with pytest.raises(OSError, match="in use"):
        DemoMaster(port=master.port).start()
    assert main(["--port", str(master.port)]) == 1
    assert "cannot be used" in capsys.readouterr().err


def test_the_package_needs_only_the_standard_library():
    script = "import sys, syncportal.demo.__main__; print(any(m in sys.modules for m in ('django', 'requests')))"
    root = Path(syncportal.demo.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "False"


def test_the_documentation_lists_every_fault_as_it_is():
    page = Path(syncportal.demo.__file__).parents[2] / "docs" / "demo-master.md"
    assert fault_table() in page.read_text()
