"""The tables of docs/demo-master.md, made from the fault kinds so that page and code cannot differ.

Owns: that text. Use `python -m syncportal.demo.docs` and paste what it prints.
"""

import sys

from syncportal.demo.kinds import KINDS, PRESETS


def fault_table() -> str:
    """Return the presets and the kinds of fault as two Markdown tables."""
    lines = ["| preset | what happens |", "|---|---|"]
    lines += [f"| `{name}` | {says} |" for name, (says, _) in PRESETS.items()]
    lines += ["", "| fault | what the master does | settings and defaults |", "|---|---|---|"]
    for name, kind in KINDS.items():
        settings = ", ".join(f"`{key}={_shown(value)}`" for key, value in kind.settings.items())
        lines.append(f"| `{name}` | {kind.says} | {settings or '-'} |")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.stdout.write(fault_table())
