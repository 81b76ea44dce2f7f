# Everything runs from .venv, which is made from the hashed lock files when it is missing or older than them.
# Needs python3 (3.11 or newer) and nothing else; the browser tests install Chromium when run as root.
.DEFAULT_GOAL := help
.PHONY: help demo run worker migrate test test-sqlite test-postgres check format bench chaos lock browser clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8000

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("SyncPortal needs Python 3.11 or newer, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@touch $(STAMP)

demo: $(STAMP) ## Start everything with sample data and two remotes to break; prints address and login (PORT=8080)
	$(BIN)/python manage.py demo $(if $(filter-out file,$(origin PORT)),--port $(PORT))

migrate: $(STAMP) ## Bring the database up to date
	$(BIN)/python manage.py migrate

run: migrate ## Start the web server on PORT (default 8000)
	$(BIN)/python manage.py runserver --noreload 127.0.0.1:$(PORT)

worker: migrate ## Start the worker
	$(BIN)/python manage.py runworker

test: $(STAMP) browser ## Run all tests: everything on SQLite, those marked db on PostgreSQL too
	$(BIN)/python -m tests.both $(ARGS)

test-sqlite: $(STAMP) browser
	$(BIN)/python -m pytest -n 3 --dist worksteal -q $(ARGS)

test-postgres: $(STAMP)
	$(BIN)/python -m tests.postgres -- pytest -n 2 --dist worksteal -q -m db $(ARGS)

browser: # Chromium for the browser tests; without root they skip and say how to install it
	@command -v chromium chromium-browser google-chrome >/dev/null 2>&1 \
		|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; } \
		|| echo "No Chromium: browser tests will be skipped. Install one: apt-get install chromium"

check: $(STAMP) ## Style, types, layers, settings and migrations
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy syncportal rollback reconciliation
	$(BIN)/lint-imports
	$(BIN)/python manage.py check --fail-level WARNING
	$(BIN)/python manage.py makemigrations --check --dry-run
	PUBLIC_URL=https://sync.example.org $(BIN)/python manage.py check --deploy --fail-level WARNING

format: $(STAMP) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure against the limits: push, latency, reconciliation, dashboard
	$(BIN)/python -m bench

chaos: $(STAMP) ## The long forms: 50 kills per kind and database, 20,000 rows in bulk, soak
	$(BIN)/python -m tests.chaos
	$(BIN)/python -m tests.crash --runs 50000
	$(BIN)/python -m tests.crash --steps 3 --core
	$(BIN)/python -m tests.crash --steps 3 --runs 20000
	$(BIN)/python -m tests.crash --controls --runs 5000
	CHANGE_RECORDS=20000 $(BIN)/python -m pytest -q tests/reconciliation/test_under_change.py
	CHANGE_RECORDS=20000 $(BIN)/python -m tests.postgres -- pytest -q tests/reconciliation/test_under_change.py
	BULK_RECORDS=20000 $(BIN)/python -m pytest -q tests/bulk -k very_many
	BULK_RECORDS=20000 $(BIN)/python -m tests.postgres -- pytest -q tests/bulk -k very_many

lock: $(STAMP) ## Lock the newest matching versions, with hashes
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade requirements.in -o requirements.txt
	$(BIN)/uv pip compile --quiet --generate-hashes --universal --python-version 3.11 --upgrade requirements-dev.in -o requirements-dev.txt

clean: ## Remove caches (never data)
	rm -rf .ruff_cache .mypy_cache .import_linter_cache .hypothesis
