"""The configuration file: applied whole, twice without effect, and refused with every problem in its place."""

import copy
import json
import math

import pytest
import yaml
from django.core.management import call_command

from syncportal.remote.configuration import (
    ConfigurationInvalid,
    apply,
    parse,
    plan,
    save_remote,
    validate_remote_config,
    validate_resource_config,
)
from syncportal.remote.models import Remote, Resource
from syncportal.remote.spec import spec_for

EXAMPLE = """
remotes:
  - slug: ops-kinto
    base_url: http://127.0.0.1:8801/v1
    auth: {kind: basic, credential: "env:OPS_KINTO_CREDENTIAL"}
    limits: {concurrency: 16, per_second: 200, connect_timeout_s: 3, total_timeout_s: 10}
    resources:
      - slug: shifts
        list:
          path: /buckets/ops/collections/shifts/records
          params: {_sort: id}
          items: /data
          page: {style: header_url, name: Next-Page, size_param: _limit, size: 200}
        detail: {path: "/buckets/ops/collections/shifts/records/{0}", item: /data}
        id: [/id]
        version: {from: body, pointer: /last_modified}
        precondition: {send: if_match, format: '"{}"'}
        conflict: {statuses: [412]}
        update: {method: PATCH, semantics: merge, wrap: [data]}
        compared: [/title, /seats, /starts_at, /rate]
        schema: {type: object, required: [code, seats], properties: {seats: {type: integer, minimum: 0}}}
        policy: {repair: {data_mismatch: off}}
"""


def example() -> dict:
    return parse(EXAMPLE)


def refused(document) -> dict[str, str]:
    with pytest.raises(ConfigurationInvalid) as failure:
        plan(document)
    return {problem.pointer: problem.message for problem in failure.value.problems}


@pytest.mark.django_db
def test_the_documented_example_is_applied_once() -> None:
    assert [change.action for change in apply(plan(example()))] == ["create", "create"]
    assert apply(plan(example())) == ()
    resource = Resource.objects.get(slug="shifts")
    assert resource.config["policy"]["repair"] == {"data_mismatch": "off"}, "off is a word, not false"
    spec = spec_for(resource)
    assert (spec.conditional, spec.semantics, spec.policy.repair["data_mismatch"]) == (True, "merge", "off")
    assert Remote.history.count() == Resource.history.count() == 1


@pytest.mark.django_db
def test_a_change_names_the_place_and_keeps_the_rest() -> None:
    apply(plan(example()))
    changed = example()
    changed["remotes"][0]["resources"][0]["list"]["page"]["size"] = 50
    (change,) = plan(changed).changes
    assert (change.kind, change.action, change.slug) == ("resource", "update", "shifts")
    assert [(d.pointer, d.before, d.after) for d in change.differences] == [("/list/page/size", 200, 50)]


@pytest.mark.django_db
def test_json_says_the_same_as_yaml() -> None:
    apply(plan(example()))
    assert plan(parse(json.dumps(example()), filename="remotes.json")).changes == ()


R = ["remotes", 0, "resources", 0]
AT = "/remotes/0/resources/0"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "value", "pointer", "message"),
    [
        (["remotes", 0, "bas_url"], "x", "/remotes/0/bas_url", "did you mean 'base_url'"),
        (["remotes", 0, "base_url"], "ftp://x", "/remotes/0/base_url", "must be a URL"),
        (["remotes", 0, "base_url"], "http://u:p@x/", "/remotes/0/base_url", "use auth"),
        (["remotes", 0, "slug"], "No Slug", "/remotes/0/slug", "no slug"),
        (["remotes", 0, "auth", "kind"], "basik", "/remotes/0/auth/kind", "did you mean 'basic'"),
        (["remotes", 0, "auth", "credential"], "admin:s3cret", "/remotes/0/auth/credential", "env:NAME"),
        (["remotes", 0, "limits", "connect_timeout_s"], 12, "/remotes/0/limits", "must be less than"),
        (["remotes", 0, "limits", "concurrency"], 0, "/remotes/0/limits/concurrency", "between 1 and 256"),
        (["remotes", 0, "headers"], {"Authorization": "x"}, "/remotes/0/headers/Authorization", "belongs in auth"),
        ([*R, "warp"], 1, AT + "/warp", "unknown key 'warp'"),
        ([*R, "update", "warp"], 1, AT + "/update/warp", "'wrap'"),
        ([*R, "id"], ["id"], AT + "/id/0", "not a JSON Pointer"),
        ([*R, "id"], [], AT + "/id", "1 to"),
        ([*R, "list", "page"], {"style": "offset"}, AT + "/list/page", "param"),
        ([*R, "detail", "path"], "/x", AT + "/detail/path", "{0} is missing"),
        ([*R, "version"], {"from": "none"}, AT + "/precondition", "version"),
        ([*R, "schema"], {"type": "x"}, AT + "/schema/type", "x"),
        (
            [*R, "schema"], {"$ref": "http://169.254.169.254/"},
            AT + "/schema/$ref", "only references inside",
        ),
        ([*R, "policy"], {"schedule": "daily"}, AT + "/policy/schedule", "cron"),
        ([*R, "policy"], {"schedule": "0 0 31 2 *"}, AT + "/policy/schedule", "never comes"),
        ([*R, "policy"], {"schedule": "0 R(1-5) * * *"}, AT + "/policy/schedule", "whenever it is read"),
        ([*R, "normalize"], {"/a": ["tirm"]}, AT + "/normalize/~1a/0", "'trim'"),
        ([*R, "list", "page"], {"style": "offset", "param": "o", "total": "/a~2b"}, AT + "/list/page/total", "Pointer"),
        ([*R, "update", "constant"], {"/k": math.inf}, AT + "/update/constant/~1k", "cannot be written as JSON"),
        ([*R, "update", "constant"], {"/k": "\ud800"}, AT + "/update/constant/~1k", "surrogate"),
        ([*R, "delete"], {"body": [math.nan]}, AT + "/delete/body", "cannot be written as JSON"),
        ([*R, "modified_since"], {"param": "s", "overlap_s": math.nan}, AT + "/modified_since/overlap_s", "a number"),
        ([*R, "window"], {"param": "\ud800", "days": 1}, AT + "/window/param", "control characters"),
        ([*R, "schema"], {"default": math.inf}, AT + "/schema", "cannot be written as JSON"),
        ([*R, "tombstone"], {"/\ud800": 1}, AT + "/tombstone/~1\ud800", "surrogate"),
    ],
)  # fmt: skip
def test_every_problem_has_its_place_and_a_hint(path, value, pointer, message) -> None:
    document = copy.deepcopy(example())
    target = document
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    problems = refused(document)
    assert message in problems[pointer]
    assert "s3cret" not in str(problems)
    assert Remote.objects.count() == 0


@pytest.mark.django_db
def test_all_problems_are_listed_at_once() -> None:
    document = example()
    document["remotes"][0]["typo"] = 1
    document["remotes"][0]["resources"][0]["update"]["method"] = "FETCH"
    del document["remotes"][0]["resources"][0]["id"]
    assert len(refused(document)) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("remotes: []\nremotes: []", "given twice"),
        ('{"remotes": [], "remotes": []}', "twice"),
        ("remotes: [", "line"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("1: x", "must be a text"),
        ("x: &x [*x]", "nested deeper"),
        ("[" * 3000, "nested deeper than 60 (line 1, column 62)"),
        ("- " * 3000, "nested deeper than 60 (line 1"),
        ("a: &a [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"{n}: &{n} [{','.join(['*' + p] * 10)}]\n" for p, n in
         zip("abcdefgh", "bcdefghi", strict=True)), "too many values"),
    ],
)  # fmt: skip
def test_a_file_that_tricks_is_refused(text, message) -> None:
    with pytest.raises(ConfigurationInvalid) as failure:
        parse(text)
    assert message in failure.value.problems[0].message


def test_plain_yaml_words_stay_what_they_look_like() -> None:
    assert parse("a: off\nb: 2026-01-01\nc: 12:30\nd: 007\ne: true\nf: no") == {
        "a": "off", "b": "2026-01-01", "c": "12:30", "d": "007", "e": True, "f": "no",
    }  # fmt: skip


def test_hostile_configuration_from_the_editor_never_raises() -> None:
    for value in (None, [], "x", 1, {"id": None}, {"list": []}, {"id": [1]}, {"policy": {"repair": {"x": []}}},
                  {"schema": {"$ref": 5}, "id": ["/a"], "list": {"path": "/"}}):  # fmt: skip
        assert validate_resource_config(value)
    assert validate_remote_config([])


@pytest.mark.django_db
def test_the_command_says_by_its_exit_code_what_happened(tmp_path, capsys) -> None:
    file = tmp_path / "remotes.yaml"
    file.write_text(EXAMPLE)
    call_command("configure", str(file), "--dry-run")
    assert Remote.objects.count() == 0
    assert "would be created" in capsys.readouterr().out
    call_command("configure", str(file))
    call_command("configure", str(file))
    assert "Nothing to do" in capsys.readouterr().out
    file.write_text(yaml.safe_dump({"remotes": [{"slug": "x"}]}))
    with pytest.raises(SystemExit) as stopped:
        call_command("configure", str(file))
    assert stopped.value.code == 2
    assert "remotes.yaml: /remotes/0: 'base_url' is missing" in capsys.readouterr().err


@pytest.mark.django_db
def test_a_stored_secret_is_encrypted_and_leaves_no_trace() -> None:
    config = {"auth": {"kind": "basic", "credential": "stored"}}
    row = save_remote(slug="r", name="", base_url="http://x.test", config=config, secret="user:hunter2").row
    stored = Remote.objects.get(pk=row.pk)
    assert stored.secret == "user:hunter2"
    assert "hunter2" not in repr(stored.secret)
    assert "hunter2" not in str(Remote.history.values())
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT secret FROM remote_remote")
        assert "hunter2" not in cursor.fetchone()[0]
    kept = save_remote(slug="r", name="Renamed", base_url="http://x.test", config=config).row
    assert Remote.objects.get(pk=kept.pk).secret == "user:hunter2"
