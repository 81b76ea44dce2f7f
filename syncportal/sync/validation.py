"""The validation pipeline of a remote's answer, and the same schema for edits. Pure.

Seven stages in a fixed order; the first failure stops and every verdict is kept: HTTP status,
parseable JSON, required fields, data types, business rules, version, checksum. The first two are
decided while reading the answer (`remote.client`); an answer that fails them arrives as an error.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from jsonschema.exceptions import ValidationError

from syncportal.kernel import pointer, strict_json
from syncportal.remote import versions
from syncportal.remote.normalizers import parse_number, parse_time
from syncportal.remote.payloads import Answer, RemoteObject
from syncportal.remote.spec import ResourceSpec

STAGES = ("http_status", "json", "required", "types", "rules", "version", "checksum")
_STAGE_OF_KEYWORD = {"required": "required", "dependentRequired": "required", "type": "types"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one stage said: `code` is stable, `detail` is for people."""

    stage: str
    ok: bool
    detail: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an edit: where, a stable code, and a sentence."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Report:
    """All verdicts on one answer, in order."""

    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> Verdict | None:
        """Return the verdict that stopped the pipeline, if any."""
        last = self.verdicts[-1]
        return None if last.ok else last


def _errors(data: dict[str, Any], spec: ResourceSpec) -> Iterable[ValidationError]:
    return spec.validator.iter_errors(data) if spec.validator is not None else ()


def _where(error: ValidationError) -> str:
    path = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in error.absolute_path)
    if error.validator == "required":
        names: list[str] = list(cast("list[str]", error.validator_value))
        missing = next((name for name in names if error.message.startswith(repr(name))), "")
        return f"{path}/{missing}"
    return path


def _sentence(error: ValidationError) -> str:
    if error.validator == "required":
        return "This field is required."
    return error.message if len(error.message) <= 300 else error.message[:297] + "…"


def _absent(error: ValidationError, spec: ResourceSpec) -> bool:
    """Tell whether the value stands for "not there" in a field that may be missing: null, or "" for a format."""
    empty = error.instance is None or (error.instance == "" and error.validator == "format")
    path = list(error.absolute_path)
    return empty and len(path) == 1 and path[0] not in ((spec.schema or {}).get("required") or ())


def _other_spelling(error: ValidationError) -> bool:
    """Tell whether the value is of the schema's type in another spelling, as `remote.equality` compares it."""
    wanted: Any = error.validator_value
    value = error.instance
    if error.validator == "format":
        return wanted in {"date-time", "date"} and parse_time(value) is not None
    if error.validator != "type":
        return False
    types = {wanted} if isinstance(wanted, str) else set(wanted)
    if isinstance(value, str) and types & {"number", "integer"}:
        number = parse_number(value)
        return number is not None and ("number" in types or isinstance(number, int))
    return "boolean" in types and isinstance(value, int) and value in (0, 1)


def _shown_errors(data: dict[str, Any], spec: ResourceSpec) -> Iterable[ValidationError]:
    """Yield what the schema has against an object as a remote spells it: 19.25 may come as "19.25", absent as null."""
    return (error for error in _errors(data, spec) if not (_absent(error, spec) or _other_spelling(error)))


def edit_problems(
    data: dict[str, Any], *, spec: ResourceSpec, before: Mapping[str, Any] | None = None
) -> list[Problem]:
    """Return everything the resource's schema has against `data`; empty when it may be saved.

    Only fields that a person can set are judged: what the remote fills in itself (ids, versions,
    read-only fields) may still be missing before the first push. Fields that are as in `before`
    may keep the remote's spelling.
    """
    known = before or {}
    found = []
    for error in _errors(data, spec):
        where = _where(error)
        name = str(error.absolute_path[0]) if error.absolute_path else ""
        untouched = name in known and data.get(name) == known[name]
        if spec.is_remote_only(where) or (untouched and (_absent(error, spec) or _other_spelling(error))):
            continue
        found.append(Problem(where, str(error.validator), _sentence(error)))
    return sorted(found, key=lambda problem: problem.pointer)


def answer_problems(data: dict[str, Any], *, spec: ResourceSpec) -> list[Problem]:
    """Return everything the schema has against an object as the remote shows it in a list."""
    return [Problem(_where(error), str(error.validator), _sentence(error)) for error in _shown_errors(data, spec)]


def _schema_verdicts(data: dict[str, Any], spec: ResourceSpec) -> list[Verdict]:
    first: dict[str, Verdict] = {}
    for error in _shown_errors(data, spec):
        stage = _STAGE_OF_KEYWORD.get(str(error.validator), "rules")
        detail = f"{_where(error) or 'The answer'}: {_sentence(error)}"
        first.setdefault(stage, Verdict(stage, False, detail, stage))
    return [first.get(stage, Verdict(stage, True)) for stage in ("required", "types", "rules")]


def _version_verdict(known: str | None, shown: str | None) -> Verdict:
    relation = versions.compare(known, shown) if known and shown else "equal" if known == shown else "different"
    ok = relation != "older"
    detail = f"version {shown} ({relation})" if shown else "no version"
    return Verdict("version", ok, detail if ok else f"Version {shown} is older than {known}.", "" if ok else "older")


def checksum_of(data: dict[str, Any], *, algorithm: str, fields: Iterable[str]) -> str:
    """Return the hex digest over the canonical JSON of the listed fields (pointer without its slash to value)."""
    listed = {field.lstrip("/"): pointer.get(data, field, None) for field in fields}
    return hashlib.new(algorithm, strict_json.dumps_canonical(listed).encode()).hexdigest()


def _checksum_verdict(answer: Answer, data: dict[str, Any], spec: ResourceSpec) -> Verdict:
    rule = spec.checksum
    if rule is None:
        return Verdict("checksum", True, "not configured")
    shown = pointer.get(data, rule.at, None) if rule.source == "body" else answer.headers.get(rule.at)
    if not isinstance(shown, str):
        return Verdict("checksum", False, "The answer carries no checksum.", "checksum")
    computed = checksum_of(data, algorithm=rule.algorithm, fields=rule.fields)
    if shown.strip().strip('"').lower() == computed:
        return Verdict("checksum", True)
    return Verdict("checksum", False, "The checksum does not match the content.", "checksum")


def check_answer(
    answer: Answer, shown: RemoteObject, *, spec: ResourceSpec, expected_id: str | None, known_version: str | None
) -> Report:
    """Run stages one to seven over a parsed answer; stop at the first failure.

    expected_id: None when the remote is only now making the id. known_version: the version to
    compare with, None to accept any.
    """
    verdicts = [Verdict("http_status", True, str(answer.status)), Verdict("json", True)]
    if expected_id is not None and shown.external_id != expected_id:
        detail = f"The answer is about {shown.external_id!r}, not about {expected_id!r}."
        return Report((*verdicts, Verdict("required", False, detail, "wrong_id")))
    for verdict in _schema_verdicts(shown.data, spec):
        verdicts.append(verdict)
        if not verdict.ok:
            return Report(tuple(verdicts))
    verdicts.append(_version_verdict(known_version, shown.version))
    if verdicts[-1].ok:
        verdicts.append(_checksum_verdict(answer, shown.data, spec))
    return Report(tuple(verdicts))
