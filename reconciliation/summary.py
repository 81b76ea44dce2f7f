"""A run told in words and numbers: for the event, the mail to operations, the command and the CSV file.

Guarantees: cells of the file that a spreadsheet would take for a formula are made text; nothing here sends anything.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from reconciliation import reports
from reconciliation.models import Discrepancy, Run
from reconciliation.states import Kind

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
COLUMNS = (
    "id", "resource", "external_id", "record", "kind", "cause", "state", "pointer", "local", "remote", "local_version",
    "remote_version", "reopened", "found_at", "seen_at", "detail",
)  # fmt: skip


def as_data(run: Run) -> dict[str, Any]:
    """Return what the end of a run tells: its counts, how long it took, what is wrong."""
    return {
        "state": run.state, "checked": run.checked, "matched": run.matched, "busy": run.busy, **reports.counts(run),
        "fixed": run.fixed, "planned": run.planned, "ignored": run.ignored, "closed": run.closed,
        "needing_action": run.needing_action, "duration_s": round(reports.duration_s(run), 1),
        "rows_per_s": round(reports.rows_per_s(run), 1), "problem": run.problem,
    }  # fmt: skip


def sentence(data: dict[str, Any]) -> str:
    """Return one line about a run from what its end told."""
    kinds = [f"{data[kind.value]} {kind.label.lower()}" for kind in Kind if data.get(kind.value)]
    return (
        f"{data['checked']} checked, {data['matched']} matched, {data['busy']} busy; "
        f"{', '.join(kinds) or 'no differences'}; {data['fixed']} fixed, {data['needing_action']} needing action; "
        f"{data['duration_s']} s, {data['rows_per_s']:.0f} rows/s"
    )


def csv_lines(rows: Iterable[Discrepancy]) -> Iterator[str]:
    """Yield a CSV file line by line, one line for each differing field; rows need their resource loaded."""
    yield _line(COLUMNS)
    for row in rows:
        for difference in row.differences or [{"pointer": "", "local": None, "remote": None}]:
            yield _line(
                (
                    row.pk, row.resource.slug, row.external_id, row.record_id or "", row.kind, row.cause, row.state,
                    difference["pointer"], _text(difference["local"]), _text(difference["remote"]),
                    row.local_version or "", row.remote_version or "", row.reopened, row.found_at.isoformat(),
                    row.seen_at.isoformat(), row.detail,
                )
            )  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(cells: Iterable[Any]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow([_harmless(cell) for cell in cells])
    return out.getvalue()


def _harmless(cell: Any) -> Any:
    """Put an apostrophe before what a spreadsheet would calculate; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
