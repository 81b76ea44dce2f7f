"""What each module may import, and how the code is cut: rules that import-linter cannot say."""

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("syncportal", "rollback", "reconciliation")
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
LINES = 400

# Pure: the same answer for the same input. No Django models or settings, no network, no clock, no other process.
PURE = (
    "reconciliation/diff.py",
    "reconciliation/policy.py",
    "syncportal/kernel/backoff.py",
    "syncportal/kernel/machine.py",
    "syncportal/kernel/pointer.py",
    "syncportal/kernel/redaction.py",
    "syncportal/kernel/strict_json.py",
    "syncportal/remote/equality.py",
    "syncportal/remote/errors.py",
    "syncportal/remote/payloads.py",
    "syncportal/remote/versions.py",
    "syncportal/sync/conflicts.py",
    "syncportal/sync/decisions.py",
    "syncportal/sync/validation.py",
)
PURE_MAY_USE = {"jsonschema", "reconciliation", "referencing", "rfc3339_validator", "syncportal"}
IMPURE = {"os", "random", "secrets", "socket", "subprocess", "threading", "time", "multiprocessing", "asyncio"}
IMPURE_OWN = (
    "syncportal.kernel.clock",
    "syncportal.kernel.doorbell",
    "syncportal.kernel.tx",
    "syncportal.kernel.bulk",
    "syncportal.settings",
    "syncportal.remote.client",
    "syncportal.remote.gateway",
    "syncportal.remote.limits",
    "syncportal.sync.records",
    "syncportal.sync.transitions",
    "syncportal.sync.events",
)


def files(*, of: tuple[str, ...] = PACKAGES) -> list[Path]:
    return sorted(path for package in of for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def users_of(package: str) -> list[str]:
    return [name(path) for path in files() if any(found.split(".")[0] == package for found in imports(parsed(path)))]


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        name(path)
        for path in files()
        for node in ast.walk(parsed(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {"environ", "getenv"} & {a.name for a in node.names}
        )
    ]
    # The entry points only name the settings module; the supervisor hands its own environment on.
    assert set(readers) - {"syncportal/settings.py", "syncportal/asgi.py", "syncportal/wsgi.py"} == set()


def test_only_the_doorbell_and_the_supervisor_know_django_q() -> None:
    def allowed(user: str) -> bool:
        return user in {"syncportal/kernel/doorbell.py", "syncportal/ops/schedules.py"} or user.startswith(
            "syncportal/ops/supervisor"
        )

    assert [user for user in users_of("django_q") if not allowed(user)] == []


@pytest.mark.parametrize("package", ["requests", "urllib3", "authlib"])
def test_only_the_remote_stratum_talks_http(package: str) -> None:
    assert [user for user in users_of(package) if not user.startswith("syncportal/remote/")] == []


@pytest.mark.parametrize("path", PURE)
def test_a_pure_module_imports_nothing_that_acts(path: str) -> None:
    found = set(imports(parsed(ROOT / path)))
    tops = {module.split(".")[0] for module in found}
    assert tops <= set(sys.stdlib_module_names) | PURE_MAY_USE
    assert tops & IMPURE == set()
    assert [module for module in found if module.startswith(IMPURE_OWN)] == []


def test_the_demo_master_uses_the_standard_library_and_the_kernel_only() -> None:
    for path in files(of=("syncportal/demo",)):
        for module in imports(parsed(path)):
            fits = module.split(".")[0] in sys.stdlib_module_names or module.startswith(
                ("syncportal.demo", "syncportal.kernel")
            )
            assert fits or module == "syncportal", f"{name(path)} imports {module}"


def test_no_function_imports_our_own_modules() -> None:
    late = [
        f"{name(path)}:{inner.lineno}"
        for path in files()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
        if isinstance(inner, ast.Import | ast.ImportFrom)
        and any(module.split(".")[0] in PACKAGES for module in imports(inner))
    ]
    assert late == []


def test_a_file_has_one_subject() -> None:
    everywhere = files(of=(*PACKAGES, "tests", "bench"))
    long = {name(path): count for path in everywhere if (count := len(path.read_text("utf-8").splitlines())) > LINES}
    assert long == {}


def test_no_module_is_a_drawer() -> None:
    assert [name(path) for path in files() if {path.stem, path.parent.name} & FORBIDDEN_NAMES] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [name(path) for path in files() if path.read_text("utf-8").strip() and not ast.get_docstring(parsed(path))]
    assert silent == []


def test_nothing_marks_remote_text_as_safe() -> None:
    marks = [name(path) for path in files() if "mark_safe" in path.read_text("utf-8")]
    marks += [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "templates").rglob("*.html")
        if "|safe" in path.read_text("utf-8") or "autoescape off" in path.read_text("utf-8")
    ]
    assert marks == []


def test_templates_carry_no_inline_style_or_script() -> None:
    offending = []
    for path in (ROOT / "templates").rglob("*.html"):
        text = path.read_text("utf-8")
        handlers = [
            word for word in (" onclick=", " onchange=", " onload=", " onsubmit=", "javascript:") if word in text
        ]
        if " style=" in text or "<style" in text or "<script>" in text or handlers:
            offending.append(path.relative_to(ROOT).as_posix())
    assert offending == []


def test_the_dark_theme_differs_in_colours_alone() -> None:
    """So a page that axe has judged in one theme needs only its colours judged in the other."""
    sheets = list((ROOT / "syncportal" / "static" / "syncportal").rglob("*.css"))
    dark = [
        text for path in sheets for text in re.split(r"@media[^{]*prefers-color-scheme", path.read_text("utf-8"))[1:]
    ]
    assert len(dark) == 1
    rules, declarations = dark[0][: dark[0].index("}\n}")].split("{", 2)[1:]
    assert rules.strip() == ":root"
    names = [line.split(":")[0].strip() for line in declarations.split(";") if line.strip()]
    assert len(names) > 50
    assert {name for name in names if not name.startswith("--")} == {"color-scheme"}
