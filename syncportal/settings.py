"""All settings; the only reader of the environment.

Owns: every variable a person can set (`SCHEME`, documented in .env.example, each also as NAME_FILE) and what follows
from it. Guarantees: a value that cannot be read stops the start with the variable's name; secrets have no
default. Does not: judge whether values fit together; that is syncportal/ops/checks.py.
"""

import logging
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from cryptography.fernet import Fernet
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.core.management.utils import get_random_secret_key
from environ.fileaware_mapping import FileAwareMapping

from syncportal.kernel.first_start import stored_secret
from syncportal.kernel.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent


class _Environment(FileAwareMapping):
    """The process environment; a value read from a NAME_FILE loses its closing line break."""

    def __getitem__(self, key: str) -> str:
        return super().__getitem__(key).strip()


class _Env(environ.FileAwareEnv):
    ENVIRON = _Environment()


SCHEME: dict[str, tuple[type, Any]] = {
    "SECRET_KEY": (str, ""),
    "DEBUG": (bool, False),
    "DATABASE_URL": (str, ""),
    "DATA_DIR": (str, "var"),
    "PUBLIC_URL": (str, "http://127.0.0.1:8000"),
    "ALLOWED_HOSTS": (list, ["localhost", "127.0.0.1", "[::1]"]),
    "PROXY_COUNT": (int, 0),
    "ENCRYPTION_KEYS": (list, []),
    "REMOTE_ALLOWED_NETWORKS": (list, []),
    "EMAIL_URL": (str, "consolemail://"),
    "FROM_EMAIL": (str, ""),
    "OPERATIONS_EMAIL": (list, []),
    "SLACK_WEBHOOK_URL": (str, ""),
    "LOG_FORMAT": (str, "console"),
    "TIME_ZONE": (str, "UTC"),
    "WORKERS": (int, 3),
}
_Env.read_env(BASE_DIR / ".env")  # silent when there is none; the real environment wins
env = _Env(**SCHEME)


def _read(name: str) -> Any:
    """Return a variable in its type; a value that cannot be read names the variable, an empty one means the default."""
    kind, default = SCHEME[name]
    try:
        if kind is list:
            return [part.strip() for part in env.list(name, default=default) if part.strip()] or list(default)
        return default if env.str(name, default="") == "" else env(name)
    except (ValueError, OSError) as problem:
        raise ImproperlyConfigured(f"{name} (or {name}_FILE) cannot be read as {kind.__name__}: {problem}") from problem


def _env_secret(name: str) -> str | None:
    """Return a credential that a remote names as `env:NAME`, read fresh from NAME or NAME_FILE; None when not given."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
    return os.environ.get(name)


ENV_SECRET: Callable[[str], str | None] = _env_secret

# --- Where things are -------------------------------------------------------------------------------------------------
DATA_DIR = (BASE_DIR / _read("DATA_DIR")).resolve()
DATA_DIR.mkdir(parents=True, exist_ok=True)
DEBUG = _read("DEBUG")
SECRET_KEY = _read("SECRET_KEY") or stored_secret(DATA_DIR / "secret.key", make=get_random_secret_key)
# First key encrypts, all decrypt.
ENCRYPTION_KEYS: list[str] = _read("ENCRYPTION_KEYS") or [
    stored_secret(DATA_DIR / "encryption.key", make=lambda: Fernet.generate_key().decode("ascii"))
]
PUBLIC_URL = _read("PUBLIC_URL").rstrip("/")
_public = urlsplit(PUBLIC_URL)
_https = _public.scheme == "https"
ALLOWED_HOSTS: list[str] = _read("ALLOWED_HOSTS")
if _public.hostname and _public.hostname not in ALLOWED_HOSTS:
    ALLOWED_HOSTS.append(_public.hostname)
CSRF_TRUSTED_ORIGINS = [f"{_public.scheme}://{_public.netloc}"] if _public.netloc else []

ROOT_URLCONF = "syncportal.urls"
ASGI_APPLICATION = "syncportal.asgi.application"
WSGI_APPLICATION = "syncportal.wsgi.application"
INSTALLED_APPS = [
    "syncportal.ops.admin_config.SyncPortalAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_filters",
    "django_htmx",
    "django_q",
    "django_structlog",
    "axes",
    "csp",
    "simple_history",
    "syncportal.access",
    "syncportal.remote",
    "syncportal.bulk",
    "syncportal.sync",
    "rollback",
    "reconciliation",
    "syncportal.ops",
]
MIDDLEWARE = [
    "syncportal.kernel.middleware.every_answer",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "syncportal.kernel.viewer_zone.viewer_zone",
    "simple_history.middleware.HistoryRequestMiddleware",
    "axes.middleware.AxesMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database ---------------------------------------------------------------------------------------------------------
try:
    _database = env.db_url_config(_read("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'syncportal.sqlite3'}")
except (ImproperlyConfigured, ValueError) as problem:
    raise ImproperlyConfigured(
        "DATABASE_URL cannot be read; write postgres://user:password@host:5432/name"
    ) from problem
if not _database["ENGINE"].endswith(("sqlite3", "postgresql")):
    raise ImproperlyConfigured("DATABASE_URL must begin with sqlite:/// or postgres://")
if _database["ENGINE"].endswith("sqlite3"):
    # IMMEDIATE and WAL together, or writers meet "database is locked"; FULL, or a power cut loses acknowledged saves.
    _database["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
else:
    _database["HOST"] = unquote(_database["HOST"])  # a socket's folder is written as %2Fvar%2Frun
    _database["CONN_MAX_AGE"] = 600
    _database["CONN_HEALTH_CHECKS"] = True
    _database.setdefault("OPTIONS", {})
    _database["OPTIONS"].setdefault("connect_timeout", 5)
    _database["OPTIONS"].setdefault(
        "options",
        "-c statement_timeout=30000 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=30000",
    )
DATABASES = {"default": _database}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Time chain: connect < call < task < lease, task timeout < retry (checked in ops/checks.py) -----------------------
CONNECT_TIMEOUT_S = 3
CALL_TOTAL_S = 10
TASK_BUDGET_S = 20
GROUP_BUDGET_S = 25
WEB_TIMEOUT_S = 60
LEASE_S = 90
Q_CLUSTER = {
    "name": "syncportal",
    "label": "syncportal",
    "orm": "default",
    "poll": 0.2,
    "workers": _read("WORKERS"),
    "timeout": 60,
    "retry": 120,
    "max_attempts": 1,
    "ack_failures": True,
    "save_limit": -1,
    "catch_up": False,
    "queue_limit": 4,
    "bulk": 1,
}

# --- People and browsers ----------------------------------------------------------------------------------------------
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
AXES_HANDLER = "axes.handlers.database.AxesDatabaseHandler"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = timedelta(minutes=15)
AXES_RESET_ON_SUCCESS = True
AXES_ENABLE_ADMIN = False
AXES_LOCKOUT_TEMPLATE = "403_locked_out.html"
AXES_HTTP_RESPONSE_CODE = 429
AXES_IPWARE_PROXY_COUNT = _read("PROXY_COUNT") or None
if AXES_IPWARE_PROXY_COUNT:
    AXES_IPWARE_META_PRECEDENCE_ORDER = ["HTTP_X_FORWARDED_FOR", "REMOTE_ADDR"]
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_SECURE = _https
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = _https
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "syncportal.ops.error_pages.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if _https:
    # An https address means a proxy or gunicorn ends TLS; health checks come from inside and stay on http.
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = True
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"
STATIC_ROOT.mkdir(exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "syncportal" / "static"]
WHITENOISE_USE_FINDERS = True  # served as installed: nothing to collect first
WHITENOISE_ALLOW_ALL_ORIGINS = False
WHITENOISE_MAX_AGE = 0 if DEBUG else 300

# --- Language, time, mail, logs ---------------------------------------------------------------------------------------
LANGUAGE_CODE = "en"
USE_I18N = True
FORMAT_MODULE_PATH = ["syncportal.formats"]
USE_TZ = True
TIME_ZONE = _read("TIME_ZONE")
REMOTE_ALLOWED_NETWORKS: list[str] = _read("REMOTE_ALLOWED_NETWORKS")
SLACK_WEBHOOK_URL = _read("SLACK_WEBHOOK_URL")
OPERATIONS_EMAIL: list[str] = _read("OPERATIONS_EMAIL")
try:
    vars().update(env.email_url_config(_read("EMAIL_URL")))
except (ImproperlyConfigured, ValueError, KeyError) as problem:
    raise ImproperlyConfigured("EMAIL_URL cannot be read; write smtp+tls://user:password@host:587") from problem
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = _read("FROM_EMAIL") or f"syncportal@{_public.hostname or 'localhost'}"
LOG_FORMAT = _read("LOG_FORMAT")
LOGGING = logging_config(style=LOG_FORMAT)
DJANGO_STRUCTLOG_USER_ID_FIELD = "pk"
DJANGO_STRUCTLOG_TRUST_UPSTREAM_REQUEST_ID = True  # kernel/middleware.py has checked it
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG  # one line a request, when it is done
DJANGO_STRUCTLOG_REQUEST_CANCELLED_LOG_LEVEL = logging.DEBUG  # every page that is left cancels its stream

# --- HTTP API ---------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "syncportal.access.authentication.BearerKey",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["syncportal.access.permissions.ScopePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["syncportal.access.parsing.StrictJsonParser"],
    "DEFAULT_FILTER_BACKENDS": ["syncportal.access.filtering.StrictFilters"],
    "DEFAULT_PAGINATION_CLASS": "syncportal.access.paging.NewestFirst",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_METADATA_CLASS": None,
    "EXCEPTION_HANDLER": "syncportal.access.problems.exception_handler",
    "URL_FORMAT_OVERRIDE": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "SyncPortal API",
    "DESCRIPTION": "Records kept in step with master APIs. Errors are RFC 9457 problem documents; see docs/api.md.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "ConflictStateEnum": "syncportal.sync.models.Conflict.State",
        "RunStateEnum": "reconciliation.states.RunState",
        "DiscrepancyStateEnum": "reconciliation.states.State",
        "StatusEnum": "syncportal.sync.states.Status",
        "ConflictReasonEnum": "syncportal.sync.models.Conflict.Reason",
        "GroupStatusEnum": "rollback.states.GroupStatus",
        "StepStatusEnum": "rollback.api.shapes.SHOWN_STEPS",
        "TaskStatusEnum": "rollback.states.TaskStatus",
        "TaskReasonEnum": "rollback.states.TaskReason",
        "AlertStateEnum": "syncportal.ops.alerts.states.AlertState",
        "AlertRuleEnum": "syncportal.ops.alerts.kinds.Kind",
        "BulkStateEnum": "syncportal.bulk.states.State",
        "BulkRowStateEnum": "syncportal.bulk.states.RowState",
        "SeverityEnum": "syncportal.ops.alerts.states.Severity",
    },
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "persistAuthorization": False, "validatorUrl": None},
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "syncportal.access.openapi.add_problems",
    ],
}
