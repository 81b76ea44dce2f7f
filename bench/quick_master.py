"""A master that costs almost nothing: the demo's accounts over HTTP/1.1 with versions, `If-Match` and a latency.

Measurements of pushes and groups need a remote that is slow by waiting, not by computing: the demo master spends about
a millisecond a request, and on two cores that is what one would measure. It answers GET, PUT and PATCH of
`/api/accounts/{id}` as the demo master does, knows no faults and keeps no log.
`python -m bench.quick_master --accounts 1000 --latency-ms 50` prints its address.
"""

import argparse
import asyncio
import json

from syncportal.demo.seed import account_rows

PREFIX = b"/api/accounts/"
REASONS = {200: b"OK", 404: b"Not Found", 412: b"Precondition Failed"}


class Master(asyncio.Protocol):
    """One connection: requests come one after the other, each is answered after the latency."""

    def __init__(self, rows: dict[str, dict], latency_s: float) -> None:
        self.rows, self.latency_s = rows, latency_s
        self.waiting = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        head, found, rest = self.waiting.partition(b"\r\n\r\n")
        if not found:
            return
        request, *lines = head.split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        length = int(headers.get(b"content-length", b"0"))
        if len(rest) < length:
            return
        self.waiting = rest[length:]
        method, path, _ = request.split(b" ")
        loop = asyncio.get_running_loop()
        loop.call_later(self.latency_s, self.answer, method, path, headers.get(b"if-match"), rest[:length])

    def answer(self, method: bytes, path: bytes, expected: bytes | None, body: bytes) -> None:
        """Do what was asked for and send the object as it is then."""
        row = self.rows.get(path.removeprefix(PREFIX).decode())
        if row is None:
            self.send(404, {"error": "there is no such account"})
        elif method == b"GET":
            self.send(200, row)
        elif expected is not None and expected.strip(b'"') != str(row["version"]).encode():
            self.send(412, row)
        else:
            kept = row if method == b"PATCH" else {"id": row["id"]}
            row = {**kept, **json.loads(body), "id": row["id"], "version": row["version"] + 1}
            self.rows[row["id"]] = row
            self.send(200, row)

    def send(self, status: int, row: dict) -> None:
        """Write one answer."""
        body = json.dumps(row).encode()
        etag = b'ETag: "%d"\r\n' % row["version"] if "version" in row else b""
        head = b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        self.transport.write(head % (status, REASONS[status], etag, len(body)) + body)


async def serve(accounts: int, latency_s: float) -> None:
    """Serve until the process ends."""
    rows = {row["id"]: {**row, "version": 1} for row in account_rows(accounts)}
    server = await asyncio.get_running_loop().create_server(lambda: Master(rows, latency_s), "127.0.0.1", 0)
    print(f"Quick master: http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.quick_master", description=__doc__)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--latency-ms", type=float, default=50)
    options = parser.parse_args()
    asyncio.run(serve(options.accounts, options.latency_ms / 1000))
