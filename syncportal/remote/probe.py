"""Finding out what a remote really does: reads, and with consent a few writes on one scratch object.

Owns: the run of a probe and the scratch object. Guarantees: without `write` nothing is written; with it one object is
created and deleted, or, where nothing can be created, one existing object is changed and put back; what could not be
cleaned up is named on the card. It ends within LOOKING_S + CLEANING_S (and a sign-in before), less than a web request
may take; what there was no time for is named too. Findings are kept on the resource. Does not: decide what follows.
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from syncportal.kernel import pointer as pointers
from syncportal.kernel.clock import db_now
from syncportal.remote import auth, configuration
from syncportal.remote.client import Deadline
from syncportal.remote.errors import Conflict, Missing, RemoteError, Throttled
from syncportal.remote.gateway import ResourceClient, client_for
from syncportal.remote.guarantees import Observations, card_of
from syncportal.remote.knobs import PreconditionSpec
from syncportal.remote.listing import places_in
from syncportal.remote.models import Resource
from syncportal.remote.payloads import RemoteObject, WriteResult

CALL_S = 10.0
LOOKING_S = 30.0
CLEANING_S = 15.0  # kept for the scratch object, however long looking took
COARSE_WAIT_S = 1.1
_CHANGEABLE = ("string", "integer", "number", "boolean")


def run(resource: Resource, *, write: bool = False, actor: Any = None) -> dict[str, Any]:
    """Probe `resource`, store the guarantee card and return it.

    Raises Misconfiguration or a RemoteError when the remote cannot even be read. Never call it inside a transaction.
    """
    client = client_for(resource)
    prober = Prober(client)
    prober.look(write=write)
    if client.credentials.dirty_token is not None:
        auth.store(resource.remote, client.credentials)
    now = db_now()
    card = card_of(prober.seen, send=client.spec.precondition.send) | {"probed_at": now.isoformat()}
    configuration.save_guarantees(resource, card=card, now=now, actor=actor)
    return card


class Prober:
    """One probe of one resource."""

    def __init__(self, client: ResourceClient) -> None:
        """Start with nothing seen."""
        self.client = client
        self.spec = client.spec
        self.seen = Observations()
        self.sample: RemoteObject | None = None
        self._read_ms: list[int] = []
        self._deadline = Deadline(LOOKING_S)
        self._undone: list[str] = []

    def look(self, *, write: bool) -> None:
        """Read, with `write` also write, until all is seen or the time is up; raises RemoteError for a failed read."""
        self._in_time("the objects and their versions", self.read_part)
        if write:
            self._in_time("all that needs writes", self.write_part)
        if self._undone:
            left = ", ".join(self._undone)
            self.seen.problems.append(f"The probe's {LOOKING_S:g} s were over before it could look at: {left}.")

    def _in_time(self, what: str, step: Callable[[], None]) -> None:
        """Look at one thing; what the end of the time cut short, or left no room for, counts as not looked at."""
        if not self._deadline.over:
            try:
                step()
                return
            except RemoteError:
                if not self._deadline.over:
                    raise
        self._undone.append(what)

    # --- reading -------------------------------------------------------------------------------------------------

    def read_part(self) -> None:
        """Look at the list, the versions and the paging."""
        rows = self._look_at_list() if self.spec.has_list else []
        self.sample = next((row for row in rows if row.external_id and not row.tombstone), None)
        if self.sample is None or self.sample.external_id is None:
            self.seen.problems.append("There is no object to read: versions could not be looked at.")
            return
        first, second = self._read(self.sample.external_id), self._read(self.sample.external_id)
        if self.spec.version.source != "none":
            self.seen.version_real = first.version is not None
            self.seen.version_in_list = self.sample.version is not None
            if first.version != second.version and self.spec.comparator.equal(first.data, second.data):
                self.seen.version_real = False
                self.seen.problems.append("The version changes between two reads of the same content.")
            if first.version is None:
                self.seen.problems.append("The object read has no version where the configuration looks for it.")
        self.sample = second
        self.seen.window_ms = max(1, round(median(self._read_ms)))

    def _look_at_list(self) -> list[RemoteObject]:
        page = self.client.list_page(None, deadline=self._deadline.at_most(CALL_S))
        self.seen.list_readable = not page.problems
        self.seen.problems += page.problems[:3]
        self.seen.total_shown = page.total is not None
        wanted = self.spec.listing.page.size if self.spec.listing else None
        if wanted and page.next is not None and page.raw_count < wanted:
            self.seen.page_cap = page.raw_count
        again = self.client.list_page(None, deadline=self._deadline.at_most(CALL_S))
        order = [row.external_id for row in page.objects]
        # A page of stubs may be cut short by time, here or there.
        keeps = all(first == row.external_id for first, row in zip(order, again.objects, strict=False)) and bool(
            order
        ) == bool(again.objects)
        if page.next is not None:
            following = self.client.list_page(page.next, deadline=self._deadline.at_most(CALL_S))
            keeps = keeps and not {row.external_id for row in following.objects}.intersection(order)
        self.seen.keeps_order = keeps
        return list(page.objects)

    def _read(self, external_id: str) -> RemoteObject:
        result = self.client.read(external_id, purpose="probe", deadline=self._deadline.at_most(CALL_S))
        self._read_ms.append(result.answer.exchange.duration_ms)
        return result.object

    # --- writing -------------------------------------------------------------------------------------------------

    def write_part(self) -> None:
        """Write on one scratch object and look what the remote makes of it."""
        if self.sample is None:
            self.seen.problems.append("Without an object to copy, nothing can be written.")
            return
        template, key = self.scratch_data(self.sample.data), uuid.uuid4().hex
        created = self._create(template, key=key)
        if created is not None:
            self.seen.scratch = created
            scratch = [created]
            try:
                self._try_idempotency(template, key=key, scratch=scratch)
                self._try_writes(created)
            finally:
                self._deadline = Deadline(CLEANING_S)
                for made in scratch:
                    self._delete(made)
            return
        original = self.sample
        self.seen.scratch = original.external_id or ""
        try:
            self._try_writes(self.seen.scratch)
        finally:
            self._deadline = Deadline(CLEANING_S)
            self._restore(original)

    def scratch_data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return content for the scratch object: a copy, with its natural key made unlike any other."""
        copied: Any = self.spec.writable(data)
        for at in self.spec.write_map:
            copied = pointers.put(copied, at, pointers.get(data, at))
        for at in self.spec.id_pointers if self.spec.create.id == "server" else ():
            copied = pointers.remove(copied, at)
        mark = uuid.uuid4().hex[:8]
        keys = self._natural_key()
        if self.spec.create.id == "client":
            keys += self.spec.id_pointers
        for at in keys or self._texts(copied)[:1]:
            value = pointers.get(copied, at, None)
            if isinstance(value, str):
                copied = pointers.put(
                    copied, at, f"probe-{mark}-{value}"[:60] if "@" not in value else f"p{mark}.{value}"
                )
        return copied

    def _texts(self, data: Mapping[str, Any]) -> list[str]:
        return [at for at in self._changeable(data) if isinstance(pointers.get(data, at), str)]

    def _changeable(self, data: Mapping[str, Any]) -> list[str]:
        """Return the fields that may be changed without breaking the schema, the most harmless first."""
        properties = (self.spec.schema or {}).get("properties") or {}
        kinds: dict[str, list[str]] = {kind: [] for kind in _CHANGEABLE}
        for at in self.spec.comparator.fields(data):
            names, value = pointers.parse(at), pointers.get(data, at, None)
            rule = properties.get(names[0], {}) if len(names) == 1 else {}
            if self.spec.is_remote_only(at) or at in self.spec.id_pointers or not isinstance(rule, dict):
                continue
            if isinstance(value, bool):
                kinds["boolean"].append(at)
            elif isinstance(value, int):
                kinds["integer"].append(at)
            elif isinstance(value, float):
                kinds["number"].append(at)
            elif isinstance(value, str) and value and not {"enum", "const", "format", "pattern"} & rule.keys():
                kinds["string"].append(at)
        # A text that looks like a time or an address may be checked by the remote without the schema saying so.
        plain = [at for at in kinds["string"] if not {"@", ":", "/"} & set(str(pointers.get(data, at)))]
        kinds["string"] = plain or kinds["string"]
        found = [at for kind in _CHANGEABLE for at in kinds[kind]]
        return sorted(found, key=lambda at: at in self._natural_key())

    def _natural_key(self) -> list[str]:
        """Return the places of the look-up's key: remotes are strict about names that must be unique."""
        return [at for value in self.spec.create.lookup.values() for at in places_in(value)]

    def _changed(self, data: Mapping[str, Any], *, turn: int) -> dict[str, Any]:
        places = self._changeable(data)
        if not places:
            raise LookupError("there is no field that can be changed safely")
        at = places[0]
        value = pointers.get(data, at)
        if isinstance(value, bool):
            return pointers.put(data, at, not value)
        if isinstance(value, (int, float)):
            return pointers.put(data, at, value + turn)
        return pointers.put(data, at, f"{value[:40]} p{turn}")

    def _create(self, data: Mapping[str, Any], *, key: str) -> str | None:
        own_id = self.spec.external_id_of(data) if self.spec.create.id == "client" else None
        try:
            made = self.client.create(
                data, external_id=own_id, idempotency_key=key, deadline=self._deadline.at_most(CALL_S), purpose="probe"
            )
        except RemoteError as problem:
            self._note(problem)
            self._note_uncertain(problem)
            self.seen.problems.append(f"No scratch object could be created: {problem.detail}")
            return None
        if (made.external_id or own_id) is None:
            found = self._looked_up(data) if self.spec.has_lookup else []
            if len(found) != 1:
                self.seen.leftover.append("a created object whose id the remote did not tell")
                return None
            return found[0].external_id
        self.seen.wrote = True
        return made.external_id or own_id

    def _looked_up(self, data: Mapping[str, Any]) -> list[RemoteObject]:
        try:
            return list(self.client.lookup(data, deadline=self._deadline.at_most(CALL_S))[0])
        except RemoteError as problem:
            self._note(problem)
            return []

    def _try_idempotency(self, data: Mapping[str, Any], *, key: str, scratch: list[str]) -> None:
        if not self.spec.idempotency_header or self.spec.create.id == "client":
            return
        try:
            again = self.client.create(
                data, idempotency_key=key, deadline=self._deadline.at_most(CALL_S), purpose="probe"
            )
        except RemoteError as problem:
            self._note(problem)
            self._note_uncertain(problem)
            return
        self.seen.idempotency = again.external_id == scratch[0]
        if again.external_id and not self.seen.idempotency:
            scratch.append(again.external_id)

    def _try_writes(self, target: str) -> None:
        self.seen.wrote = True
        steps = {
            "a change": self._try_change, "a stale write": self._try_stale,
            "a write without precondition": self._try_bare, "an equal write": self._try_equal,
        }  # fmt: skip
        for what, step in steps.items():
            try:
                self._in_time(what, partial(step, target))
            except LookupError as problem:
                self.seen.problems.append(f"Writing could not be tried: {problem}.")
                return
            except RemoteError as problem:
                self._note(problem)
                self.seen.problems.append(f"{what.capitalize()} failed: {problem.detail}")

    def _try_change(self, target: str) -> None:
        before = self._read(target)
        wanted = self._changed(before.data, turn=1)
        begun = time.monotonic()
        result = self._update(target, wanted, before=before)
        self.seen.window_ms = max(1, round((time.monotonic() - begun) * 1000))
        self.seen.returns_object = result.object is not None
        after = self._read(target)
        self.seen.normalises = [
            at
            for at in self.spec.comparator.fields(wanted)
            if not self.spec.is_remote_only(at) and pointers.get(wanted, at) != pointers.get(after.data, at)
        ]
        if self.spec.version.source != "none" and after.version == before.version:
            self.seen.version_coarse = True
            time.sleep(COARSE_WAIT_S)
            self._update(target, self._changed(after.data, turn=2), before=after)
            self.seen.version_real = self._read(target).version != before.version
        elif self.spec.version.source != "none":
            self.seen.version_coarse = False

    def _try_stale(self, target: str) -> None:
        if self.spec.precondition.send == "none" or self.seen.version_real is False:
            return
        old = self._read(target)
        if self.seen.version_coarse:
            time.sleep(COARSE_WAIT_S)
        self._update(target, self._changed(old.data, turn=3), before=old)
        current = self._read(target)
        if current.version == old.version:
            return
        stale = self._changed(current.data, turn=4)
        try:
            self._update(target, stale, before=replace(current, version=old.version))
        except Conflict:
            self.seen.stale_write_refused = True
            return
        self.seen.stale_write_refused = not self.spec.comparator.equal(self._read(target).data, stale)

    def _try_bare(self, target: str) -> None:
        """Write without any precondition."""
        bare = replace(self.spec, precondition=PreconditionSpec(), conditional=False)
        client = ResourceClient(bare, credentials=self.client.credentials)
        current = self._read(target)
        try:
            self._update(target, self._changed(current.data, turn=5), before=current, client=client)
        except (Conflict, RemoteError) as problem:
            if isinstance(problem, Conflict) or problem.code == "precondition_required":
                self.seen.precondition_required = True
                return
            raise
        self.seen.precondition_required = False

    def _try_equal(self, target: str) -> None:
        """Write what is already there; a merging write names the field all the same."""
        if self.spec.version.source == "none":
            return
        if self.seen.version_coarse:
            time.sleep(COARSE_WAIT_S)
        current = self._read(target)
        pretended = replace(current, data=self._changed(current.data, turn=6))
        self._update(target, current.data, before=pretended)
        self.seen.bumps_on_equal_write = self._read(target).version != current.version

    def _update(
        self, target: str, data: Mapping[str, Any], *, before: RemoteObject, client: ResourceClient | None = None
    ) -> WriteResult:
        return (client or self.client).update(
            target, data=data, base=before.data, expected_version=before.version, idempotency_key=uuid.uuid4().hex,
            deadline=self._deadline.at_most(CALL_S), purpose="probe",
        )  # fmt: skip

    # --- cleaning up ---------------------------------------------------------------------------------------------

    def _delete(self, target: str) -> None:
        def attempt() -> bool:
            current = self._read(target)
            self.client.delete(
                target,
                expected_version=current.version,
                base=current.data,
                deadline=self._deadline.at_most(CALL_S),
                purpose="probe",
            )
            self._read(target)
            return False

        self._clean_up(target, attempt, gone_is_good=True)

    def _restore(self, original: RemoteObject) -> None:
        target = original.external_id or ""

        def attempt() -> bool:
            current = self._read(target)
            if not self.spec.comparator.equal(current.data, original.data):
                self._update(target, original.data, before=current)
            return self.spec.comparator.equal(self._read(target).data, original.data)

        self._clean_up(target, attempt, gone_is_good=False)

    def _clean_up(self, target: str, attempt: Callable[[], bool], *, gone_is_good: bool) -> None:
        for _ in range(3):
            try:
                if attempt():
                    return
            except Missing:
                if gone_is_good:
                    return
            except RemoteError as problem:
                self._note(problem)
        self.seen.leftover.append(target)

    def _note_uncertain(self, problem: RemoteError) -> None:
        """Name the object of a create without an answer: nobody knows whether there is one."""
        if problem.maybe_applied:
            self.seen.leftover.append("perhaps an object whose creation was not answered")

    def _note(self, problem: RemoteError) -> None:
        if isinstance(problem, Throttled) and problem.retry_after_s is not None:
            self.seen.retry_after_seen = True
