"""One table, one writer module: everybody else calls its verbs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("syncportal", "rollback", "reconciliation")

# Table -> the only modules that may write it. Add a line with every new table.
WRITERS: dict[str, tuple[str, ...]] = {
    "Record": ("syncportal/sync/records.py",),
    "SyncJob": ("syncportal/sync/transitions.py",),
    "SyncLog": ("syncportal/sync/events.py",),
    "Event": ("syncportal/sync/events.py",),
    "Conflict": ("syncportal/sync/conflict_store.py",),
    "RecordCount": ("syncportal/sync/record_counts.py",),
    "ErrorGroup": ("syncportal/sync/error_groups.py",),
    "ErrorHour": ("syncportal/sync/error_groups.py",),
    "Rollup": ("syncportal/sync/rollups.py",),
    "Pull": ("syncportal/sync/pull.py",),
    "ScanPosition": ("syncportal/sync/scan_positions.py",),
    "Remote": ("syncportal/remote/configuration.py",),
    "Resource": ("syncportal/remote/configuration.py",),
    "Gate": ("syncportal/remote/limits.py",),
    "SlotLease": ("syncportal/remote/limits.py",),
    "AccessToken": ("syncportal/remote/auth.py",),
    "BulkOperation": ("syncportal/bulk/journal.py",),
    "BulkRow": ("syncportal/bulk/journal.py",),
    "ApiKey": ("syncportal/access/keys.py",),
    "WrongKeys": ("syncportal/access/throttle.py",),
    "StoredAnswer": ("syncportal/access/idempotency.py",),
    "Heartbeat": ("syncportal/ops/heartbeat.py",),
    "Duty": ("syncportal/ops/duties.py",),
    "AlertRule": ("syncportal/ops/alerts/rule_store.py",),
    "Alert": ("syncportal/ops/alerts/alert_store.py",),
    "Silence": ("syncportal/ops/alerts/silences.py",),
    "Channel": ("syncportal/ops/alerts/channels.py",),
    "Delivery": ("syncportal/ops/alerts/outbox.py",),
    "DigestChoice": ("syncportal/ops/alerts/digests.py",),
    "GroupedUpdate": ("rollback/journal.py",),
    "Group": ("rollback/journal.py",),
    "Step": ("rollback/journal.py",),
    "CompensatingTask": ("rollback/journal.py",),
    "Run": ("reconciliation/journal.py",),
    "Suspect": ("reconciliation/journal.py",),
    "SpooledRow": ("reconciliation/journal.py",),
    "Discrepancy": ("reconciliation/findings.py",),
}
ANY_WRITER = tuple(module for modules in WRITERS.values() for module in modules)
RELATED = {
    "records": "Record",
    "owned_records": "Record",
    "job": "SyncJob",
    "logs": "SyncLog",
    "hours": "ErrorHour",
    "events": "Event",
    "conflicts": "Conflict",
    "resolved_conflicts": "Conflict",
    "pulls": "Pull",
    "resources": "Resource",
    "gate": "Gate",
    "groups": "Group",
    "steps": "Step",
    "tasks": "CompensatingTask",
    "rows": "BulkRow",
    "runs": "Run",
    "suspects": "Suspect",
    "spooled": "SpooledRow",
    "discrepancies": "Discrepancy",
}
WRITES = {
    "save",
    "create",
    "acreate",
    "update",
    "aupdate",
    "delete",
    "adelete",
    "bulk_create",
    "bulk_update",
    "get_or_create",
    "update_or_create",
}
BULK_FUNCTIONS = {"update_rows", "insert_rows", "add_rows"}
NOT_MODELS = {"form", "serializer", "super", "local"}  # local: the module that saves people's edits


def product_files() -> list[Path]:
    return sorted(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts and "demo" not in path.parts[-2:-1]
    )


class _Scan(ast.NodeVisitor):
    """Collects (line, table) of every write it can attribute; "?" is a save on something unknown."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str]] = []
        self.names: dict[str, str] = {}

    def table_of(self, node: ast.expr) -> str | None:
        """Return the table an expression stands for, following calls and attributes down to a name."""
        match node:
            case ast.Name(id=name):
                return name if name in WRITERS else self.names.get(name)
            case ast.Attribute(value=value, attr=attr):
                if attr in RELATED and not isinstance(value, ast.Name | ast.Attribute):
                    return RELATED[attr]
                inner = self.table_of(value)
                if inner and attr in RELATED:
                    return RELATED[attr]
                return attr if attr in WRITERS else inner
            case ast.Call(func=func) | ast.Subscript(value=func) | ast.Await(value=func):
                return self.table_of(func)
        return None

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outer, self.names = self.names, dict(self.names)
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in WRITERS:
                self.names[argument.arg] = argument.annotation.id
        self.generic_visit(node)
        self.names = outer

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        table = self.table_of(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and table:
                self.names[target.id] = table

    def visit_For(self, node: ast.For) -> None:
        table = self.table_of(node.iter)
        if isinstance(node.target, ast.Name) and table:
            self.names[node.target.id] = table
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in BULK_FUNCTIONS and node.args:
            table = self.table_of(node.args[0])
            if table:
                self.found.append((node.lineno, table))
        if not isinstance(node.func, ast.Attribute) or name not in WRITES:
            return
        table = self.table_of(node.func.value)
        if table:
            self.found.append((node.lineno, table))
        elif name == "save" and getattr(node.func.value, "id", "") not in NOT_MODELS:
            receiver = node.func.value
            if not (isinstance(receiver, ast.Call) and getattr(receiver.func, "id", "") == "super"):
                self.found.append((node.lineno, "?"))


def writes_in(source: str) -> list[tuple[int, str]]:
    scan = _Scan()
    scan.visit(ast.parse(source))
    return scan.found


def test_every_table_is_written_by_its_module_only() -> None:
    trespasses = [
        f"{relative}:{line} writes {table}"
        for path in product_files()
        for relative in [path.relative_to(ROOT).as_posix()]
        for line, table in writes_in(path.read_text(encoding="utf-8"))
        if relative not in WRITERS.get(table, ANY_WRITER)
    ]
    assert trespasses == []


def test_every_table_of_ours_has_a_writer() -> None:
    from django.apps import apps

    ours = {
        model.__name__
        for label in ("remote", "bulk", "sync", "reconciliation", "ops")
        for model in apps.get_app_config(label).get_models()
        if not model.__name__.startswith("Historical")
    }
    assert ours - set(WRITERS) == set()


@pytest.mark.parametrize(
    ("source", "table"),
    [
        ("SyncJob.objects.filter(pk=1).update(status='x')", "SyncJob"),
        ("models.Record.objects.create(data={})", "Record"),
        ("jobs = SyncJob.objects.due(now)\njobs.delete()", "SyncJob"),
        ("for record in Record.objects.all():\n    record.save()", "Record"),
        ("def f(record: Record):\n    record.save()", "Record"),
        ("record = Record.objects.get(pk=1)\nrecord.logs.create(url='x')", "SyncLog"),
        ("job = Record.objects.get(pk=1).job\njob.save(update_fields=['status'])", "SyncJob"),
        ("bulk.update_rows(SyncJob, rows, fields=['status'])", "SyncJob"),
        ("thing.save()", "?"),
    ],
)
def test_the_scan_finds_a_foreign_write(source: str, table: str) -> None:
    assert table in [found for _, found in writes_in(source)]


@pytest.mark.parametrize("source", ["counts.update({'a': 1})", "form.save()", "super().save()", "seen.update(ids)"])
def test_the_scan_leaves_other_calls_alone(source: str) -> None:
    assert writes_in(source) == []
