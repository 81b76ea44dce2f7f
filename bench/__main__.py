"""Run every measurement, one after another, on both databases. `python -m bench`"""

import subprocess
import sys

from bench import stage

MODULES = ("bench.enqueue", "bench.push", "bench.latency", "bench.reconcile", "bench.dashboard")


def main() -> int:
    """Run them all; return how many missed their goal."""
    return sum(bool(subprocess.call([sys.executable, "-m", module], cwd=stage.ROOT)) for module in MODULES)


if __name__ == "__main__":
    sys.exit(main())
