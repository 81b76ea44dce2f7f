#!/usr/bin/env bash
# Kinto 26.5 (Mozilla), memory backend: every restart is a clean store. Python >=3.10.  ~20 s install, ~1 s start, 75 MB.
set -euo pipefail
H=${REMOTES_HOME:-$HOME/.cache/remotes}/kinto; V=${REMOTES_VENV:-$H/v}; PORT=${PORT:-8801}; mkdir -p "$H"; cd "$H"
if ss -ltn | grep -q "127.0.0.1:$PORT "; then echo "port $PORT is busy: not starting" >&2; exit 3; fi
[ -x "$V"/bin/kinto ] || { python3 -m venv "$V" && timeout 300 "$V"/bin/pip -q install 'kinto==26.5.0' waitress; }
cat > kinto.ini <<I
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = $PORT
[app:main]
use = egg:kinto
kinto.includes = kinto.plugins.accounts kinto.plugins.flush
kinto.flush_endpoint_enabled = true
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = test
multiauth.policies = account
multiauth.policy.account.use = kinto.plugins.accounts.AccountsPolicy
kinto.account_create_principals = system.Everyone
kinto.bucket_create_principals = system.Authenticated
kinto.paginate_by = ${PAGE:-25}
kinto.experimental_collection_schema_validation = true
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = generic
[logger_root]
level = WARN
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = generic
[formatter_generic]
format = %(levelname)s %(name)s %(message)s
I
echo "BASE_URL=http://127.0.0.1:$PORT/v1"
exec "$V"/bin/kinto start --ini kinto.ini
