"""Every setting has one place, one description and no secret default."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RACER = (
    "import secrets, sys; from pathlib import Path; from syncportal.kernel.first_start import stored_secret; "
    "print(stored_secret(Path(sys.argv[1]), make=secrets.token_hex))"
)
QUESTION = "import syncportal.settings as s; print({})"


def ask(expression: str, folder: Path, **environment: str) -> str:
    """Read a setting in a process of its own, with nothing but the given environment."""
    answer = start(expression, folder, **environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


def start(expression: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", QUESTION.format(expression)],
        env={**kept, "DATA_DIR": str(folder), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def documented() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def shown(default: object) -> str:
    return ",".join(default) if isinstance(default, list) else str(default)


def test_the_example_lists_every_variable_with_its_default() -> None:
    from syncportal.settings import SCHEME

    assert documented() == {name: shown(default) for name, (_, default) in SCHEME.items()}


def test_every_variable_of_the_example_is_explained() -> None:
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    bare = [
        line
        for before, line in zip(lines, lines[1:], strict=False)
        if "=" in line and line[0] != "#" and before[:1] != "#"
    ]
    assert bare == []


def test_every_variable_that_is_listed_is_read_and_no_other() -> None:
    from syncportal.settings import SCHEME

    tree = ast.parse((ROOT / "syncportal" / "settings.py").read_text("utf-8"))
    read = {
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "_read"
        and isinstance(node.args[0], ast.Constant)
    }
    assert read == set(SCHEME)


def test_secrets_are_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    first = ask("s.SECRET_KEY + s.ENCRYPTION_KEYS[0]", tmp_path)
    assert ask("s.SECRET_KEY + s.ENCRYPTION_KEYS[0]", tmp_path) == first
    for name in ("secret.key", "encryption.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert ask("s.SECRET_KEY + s.ENCRYPTION_KEYS[0]", tmp_path / "other") != first


def test_processes_that_start_together_agree_on_one_secret(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        RACER,
        str(tmp_path / "k"),
    ]
    children = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    answers = {child.communicate(timeout=60)[0].strip() for child in children}
    assert len(answers) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


def test_a_variable_can_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file-with-a-line-break\n")
    assert ask("s.SECRET_KEY", tmp_path, SECRET_KEY_FILE=str(tmp_path / "secret")) == "from-a-file-with-a-line-break"


def test_a_credential_of_a_remote_is_read_from_the_environment_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("user:password\n")
    assert ask("s.ENV_SECRET('OPS')", tmp_path, OPS="a:b") == "a:b"
    assert ask("s.ENV_SECRET('OPS')", tmp_path, OPS_FILE=str(tmp_path / "c")) == "user:password"
    assert ask("s.ENV_SECRET('OPS')", tmp_path) == "None"


def test_the_public_address_derives_hosts_origins_and_secure_cookies(tmp_path: Path) -> None:
    wanted = "s.ALLOWED_HOSTS, s.CSRF_TRUSTED_ORIGINS, s.SESSION_COOKIE_SECURE, s.CSRF_COOKIE_SECURE"
    assert ask(wanted, tmp_path, PUBLIC_URL="https://sync.example.org/") == (
        "['localhost', '127.0.0.1', '[::1]', 'sync.example.org'] ['https://sync.example.org'] True True"
    )
    assert ask("s.SESSION_COOKIE_SECURE, s.DEBUG", tmp_path) == "False False"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "many"),
        ("PROXY_COUNT", "x"),
        ("DATABASE_URL", "nonsense://"),
        ("EMAIL_URL", "nonsense://"),
        ("SECRET_KEY_FILE", "/nowhere"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_variable(tmp_path: Path, name: str, value: str) -> None:
    answer = start("1", tmp_path, **{name: value})
    assert answer.returncode != 0
    assert f"ImproperlyConfigured: {name.removesuffix('_FILE')}" in answer.stderr


def test_sqlite_and_postgresql_get_their_modes(tmp_path: Path) -> None:
    assert "IMMEDIATE" in ask("s.DATABASES['default']['OPTIONS']", tmp_path)
    postgres = ask("s.DATABASES['default']", tmp_path, DATABASE_URL="postgres://u:p@h:5432/n")
    for word in (
        "lock_timeout",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "'CONN_HEALTH_CHECKS': True",
    ):
        assert word in postgres
