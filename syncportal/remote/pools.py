"""One pool of connections per remote and process.

Owns: the registry of HttpClients. Guarantees: a process that was forked never uses its parent's sockets; changed limits
get a new pool. Does not: hold secrets; each caller names its own to keep them out of its exchanges.
"""

import os
from collections.abc import Iterable
from threading import Lock

from django.conf import settings

from syncportal.remote.client import HttpClient, HttpLimits
from syncportal.remote.spec import RemoteSpec

_pools: dict[tuple[object, ...], HttpClient] = {}
_lock = Lock()
_MOST_POOLS = 256


def http_for(spec: RemoteSpec, *, secrets: Iterable[str] = (), secret_names: Iterable[str] = ()) -> HttpClient:
    """Return a client on the remote's pool that keeps `secrets` and the values under `secret_names` out of sight."""
    limits = HttpLimits(
        pool_size=max(1, min(spec.limits.concurrency, 256)), connect_timeout_s=spec.limits.connect_timeout_s
    )
    networks = tuple(settings.REMOTE_ALLOWED_NETWORKS)
    names = tuple(sorted(secret_names))
    key = (os.getpid(), spec.remote_id, spec.base_url, limits, networks, names)
    with _lock:
        pool = _pools.get(key)
        if pool is None:
            if len(_pools) >= _MOST_POOLS:
                _pools.clear()
            pool = _pools[key] = HttpClient(limits=limits, secret_names=names, allowed_networks=networks)
    return pool.with_secrets(*secrets)
