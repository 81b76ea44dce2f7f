"""All settings; the only reader of the environment."""

from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parent.parent
env = environ.FileAwareEnv()
SECRET_KEY = env.str("SECRET_KEY", "only-for-the-first-minutes")
DEBUG = True
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_q",
    "simple_history",
    "syncportal.access",
    "syncportal.remote",
    "syncportal.sync",
    "syncportal.ops",
]
DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{BASE_DIR / 'var' / 'syncportal.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE", "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
USE_TZ = True
ROOT_URLCONF = "syncportal.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ENCRYPTION_KEYS = env.list("ENCRYPTION_KEYS", default=[])
REMOTE_ALLOWED_NETWORKS = env.list("REMOTE_ALLOWED_NETWORKS", default=[])
Q_CLUSTER = {"name": "syncportal", "orm": "default", "workers": 2, "timeout": 60, "retry": 120, "poll": 0.2, "max_attempts": 1,
             "ack_failures": True, "save_limit": -1, "catch_up": False, "queue_limit": 4, "bulk": 1}
