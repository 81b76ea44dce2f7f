"""`make demo` tells its whole story and leaves nothing running."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syncportal.ops import demo_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for left-over processes in /proc")
def test_the_demo_shows_life_and_ends_with_all_its_processes(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "PUBLIC_URL"}}
    ran = subprocess.run(
        [sys.executable, "manage.py", "demo", "--once"],
        cwd=ROOT, env={**environment, "DATA_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "log in as   admin, oscar (operations) or olivia" in ran.stdout
    assert "fault storm-503" in ran.stdout
    assert "Grouped update succeeds: applied" in ran.stdout
    assert "Grouped update undone: rolled_back (rolledBack true)" in ran.stdout
    assert "Grouped update healed: compensating (rolledBack false)" in ran.stdout
    counts = {
        line.rsplit(None, 1)[0].strip(): line.split()[-1] for line in ran.stdout.splitlines() if line[-1:].isdigit()
    }
    assert (counts["Version conflict"], counts["Dead letter"]) == ("2", "1")
    assert int(counts["Synced"]) > 480
    mark = f"DATA_DIR={tmp_path}".encode()
    left = [path.parent.name for path in Path("/proc").glob("[0-9]*/environ") if mark in _read(path)]
    assert left == []


def test_a_worker_that_was_killed_is_missed_and_then_followed_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = [1_000.0], list[str]()
    monkeypatch.setattr(demo_run.time, "monotonic", lambda: clock[0])
    sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
    with demo_run.Demo(port=1, say=said.append, stopped=threading.Event()) as demo:
        web, worker, another = [subprocess.Popen(sleeping) for _ in range(3)]
        demo.children = [("web", web), ("worker", worker)]
        monkeypatch.setattr(demo_run.Demo, "_start_worker", lambda it: it.children.append(("worker", another)))
        assert demo._keeps_running() and said == []
        worker.kill()
        worker.wait()
        assert demo._keeps_running() and "The worker ended" in said[0]
        clock[0] += demo_run.WITHOUT_WORKER_S - 1
        assert demo._keeps_running() and len(demo.children) == 2 and len(said) == 1
        clock[0] += 2
        assert demo._keeps_running() and demo.children == [("web", web), ("worker", another)]
        web.kill()
        web.wait()
        assert not demo._keeps_running()
    assert another.poll() is not None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
