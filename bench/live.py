"""What open pages cost: streams on a real gunicorn, at rest and while things happen.

Opens streams as pages do (20 people, loopback), and prints the server's memory and CPU before and with them, how long
an event takes to reach all of them, and the CPU while a worker writes as much as it can be expected to.
`python -m bench.live [--streams 200] [--seconds 5] [--rate 300] [--database sqlite postgresql]`
"""

import argparse
import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

from bench import stage

PEOPLE = 20
AT_ONCE = 20
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run for every database, or (in the child process) for one."""
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rate", type=int, default=300, help="Events a second in the busy part.")
    parser.add_argument("--database", nargs="+", default=list(stage.DATABASES), choices=stage.DATABASES)
    options = parser.parse_args()
    if "BENCH_DATABASE" not in os.environ:
        return stage.rerun_for_each("bench.live", options.database, sys.argv[1:])
    stage.prepare()
    cookies = sessions()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "-k", "asgi", "--graceful-timeout", "1", "--no-control-socket"]
    server = subprocess.Popen(
        [*command, "-b", f"127.0.0.1:{port}", "syncportal.asgi:application"],
        cwd=stage.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        [worker] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        asyncio.run(Bench(port, cookies, int(worker), options).run())
    finally:
        server.terminate()
        server.wait(20)
    return 0


def sessions() -> list[str]:
    """Make people of operations who are signed in; return their session ids."""
    from django.contrib.auth.models import User
    from django.test import Client

    made = []
    for number in range(PEOPLE):
        client = Client()
        client.force_login(User.objects.create_superuser(f"page{number}"))
        made.append(client.cookies["sessionid"].value)
    return made


def wait_for(port: int) -> None:
    """Wait until the server answers."""
    for _ in range(300):
        try:
            with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("gunicorn did not start")


def rss_mib(pid: int) -> float:
    """Return a process's resident memory."""
    [line] = [one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Return a process's CPU time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def write(number: int, *, records: int = 1) -> None:
    """Write events of a worker in one transaction, as a batch does."""
    from django.db import transaction
    from django.utils import timezone

    from syncportal.sync import events
    from syncportal.sync.events import Fact, Kind

    fact = Fact(Kind.SYNC_SUCCEEDED, data={"attempt": 1, "revision": number, "operation": "update"})
    with transaction.atomic():
        events.write([fact] * records, now=timezone.now())


class Bench:
    """The open pages and what they heard."""

    def __init__(self, port: int, cookies: list[str], worker: int, options: argparse.Namespace) -> None:
        self.port, self.cookies, self.worker, self.options = port, cookies, worker, options
        self.ready, self.heard = 0, 0
        self.times: list[float] = []

    async def page(self, cookie: str) -> None:
        """Hold one stream open and note when something arrives."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(
            f"GET /admin/live/ HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAccept: text/event-stream\r\n"
            f"Cookie: sessionid={cookie}\r\n\r\n".encode()
        )
        try:
            while line := await reader.readline():
                if line.startswith(b"event: ready"):
                    self.ready += 1
                if line.startswith(b"event: moved"):
                    self.heard += 1
                    self.times.append(time.monotonic())
        finally:
            writer.close()

    async def spent(self, seconds: float) -> float:
        """Return the server's share of one core during some seconds."""
        before, begun = cpu_s(self.worker), time.monotonic()
        await asyncio.sleep(seconds)
        return 100 * (cpu_s(self.worker) - before) / (time.monotonic() - begun)

    async def run(self) -> None:
        """Measure and print."""
        count, seconds, name = self.options.streams, self.options.seconds, os.environ["BENCH_DATABASE"]
        alone, idle = rss_mib(self.worker), await self.spent(seconds)
        pages = []
        for number in range(count):
            pages.append(asyncio.create_task(self.page(self.cookies[number % PEOPLE])))
            while len(pages) - self.ready > AT_ONCE:  # each request on its way uses a database connection of its own
                await asyncio.sleep(0.05)
        while self.ready < count:
            await asyncio.sleep(0.05)
        rest = await self.spent(seconds)
        grown = rss_mib(self.worker)
        first, last = [], []
        for number in range(10):
            self.times.clear()
            wanted = self.heard + count
            begun = time.monotonic()
            await asyncio.to_thread(write, number)
            while self.heard < wanted:
                await asyncio.sleep(0.01)
            first.append(self.times[0] - begun)
            last.append(self.times[-1] - begun)
            await asyncio.sleep(0.07 * number)
        busy = asyncio.create_task(self.spent(seconds))
        begun, batches = time.monotonic(), 0
        while not busy.done():
            await asyncio.to_thread(write, batches, records=self.options.rate // 10)
            batches += 1
            await asyncio.sleep(max(0.0, begun + batches / 10 - time.monotonic()))
        for page in pages:
            page.cancel()
        await asyncio.gather(*pages, return_exceptions=True)
        await asyncio.sleep(1)
        print(
            f"live {name:10} {count} streams: {grown - alone:.1f} MiB more than {alone:.0f} MiB "
            f"({1024 * (grown - alone) / count:.0f} KiB each); CPU at rest {rest:.1f} % of a core "
            f"({idle:.1f} % without streams), with {self.options.rate} events/s {await busy:.1f} %; "
            f"an event reaches the first after {statistics.median(first):.2f} s, "
            f"all after {statistics.median(last):.2f} s (worst {max(last):.2f} s)",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
