"""`make test`: everything on SQLite and, at the same time, the tests marked `db` on PostgreSQL.

As a command: `python -m tests.both [pytest arguments]`. The kills and the browser leave the processor idle while they
wait: both parts together take hardly longer than the longer one, and a third process on SQLite works meanwhile. What
the PostgreSQL part prints is shown when it is done. Exit code 1 when either failed. Interrupted, both end all they
started.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from tests import children

# Worksteal: whoever has nothing left takes from the other, so that no long test is begun last.
PYTEST = ["-m", "pytest", "--dist", "worksteal", "-q"]
SQLITE = [sys.executable, *PYTEST, "-n", "3"]
POSTGRES = [sys.executable, "-m", "tests.postgres", "--", sys.executable, *PYTEST, "-n", "2", "-m", "db"]


def main(given: Sequence[str]) -> int:
    """Run both parts; `given` goes to both."""
    children.end_in_order()
    # Some hundred processes are started; each that may not keep compiled code compiles the product and the tests anew.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        print("SQLite, and PostgreSQL at the same time", flush=True)
        with children.running([*POSTGRES, *given], env=env, stdout=output, stderr=subprocess.STDOUT) as beside:
            failed = children.run([*SQLITE, *given], env=env)[0]
            print("PostgreSQL", flush=True)
            failed |= beside.wait()
        output.seek(0)
        print(output.read(), end="", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
