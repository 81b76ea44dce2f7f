"""Whom faults strike: by rule, script, rate, header and preset."""

import pytest

from syncportal.demo import FaultBook, FaultError
from syncportal.demo.kinds import PRESETS, make_fault, parse_header
from syncportal.demo.messages import Call
from tests.demo.asking import CHANGED, ONE, ask, put


def test_rules_match_object_collection_method_and_phase(master):
    master.faults.add("403", object_id="ACC-0002", collection="accounts", methods=("PUT",))
    master.faults.add("503", collection="shifts", phase="read")
    assert ask(master, "GET", "/accounts/ACC-0002").status == 200
    assert ask(master, "PUT", "/accounts/ACC-0002", CHANGED).status == 403
    assert put(master).status == 200
    assert ask(master, "GET", "/shifts/").status == 503
    assert ask(master, "PATCH", "/shifts/SH-0001", {"seats": 4}).status == 200
    assert master.faults.clear() == 2
    assert ask(master, "GET", "/shifts/").status == 200


def test_a_rule_strikes_the_next_n_after_sparing_some(master):
    master.faults.add("500", times=2, skip=1)
    assert [ask(master, "GET", ONE).status for _ in range(5)] == [200, 500, 500, 200, 200]
    assert master.faults.rules() == []


def test_a_script_is_consumed_in_order(master):
    master.faults.script(["503; retry_after=1", None, "ok", {"kind": "status", "status": 404}], phase="detail")
    assert ask(master, "GET", "/accounts/").status == 200
    assert [ask(master, "GET", ONE).status for _ in range(5)] == [503, 200, 200, 404, 200]


def test_a_rate_is_repeatable_by_its_seed(start):
    patterns = []
    for seed in (1, 1, 2):
        master = start(seed=seed)
        master.faults.add("500", rate=0.5)
        patterns.append([ask(master, "GET", ONE).status for _ in range(30)])
    assert patterns[0] == patterns[1] != patterns[2]
    assert 5 < patterns[0].count(500) < 25


def test_latency_adds_to_another_fault():
    book = FaultBook()
    book.add("latency", latency_ms=5)
    book.add("503")
    book.add("500")
    book.add("latency", latency_ms=7)
    assert [fault.kind for fault in book.pick(Call("GET", "/api/x"))] == ["latency", "status", "latency"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "flood"},
        {"kind": "latency", "seconds": 3},
        {"kind": "latency", "latency_ms": "long"},
        {"kind": "500", "phase": "sometimes"},
        {"kind": "500", "rate": 0},
        {"preset": "nothing"},
        {"script": ["what"]},
        {"script": [3]},
        {},
    ],
)
def test_a_wrong_rule_is_refused_by_name(wrong):
    with pytest.raises(FaultError):
        FaultBook().add_json(wrong)


def test_a_wrong_fault_header_is_a_400_and_applies_nothing(master):
    for text in ("flood", "latency; x=1", "{broken"):
        assert put(master, fault=text).status == 400
    assert master.writes() == []


def test_headers_read_several_faults_and_json():
    assert [fault.kind for fault in parse_header("latency; latency_ms=3, 503; retry_after=9")] == ["latency", "status"]
    assert parse_header('[{"kind": "html"}]')[0].kind == "html"
    assert make_fault("timeout-after").kind == "timeout_after"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_every_preset_can_be_switched_on_twice_and_off(preset):
    book = FaultBook()
    book.add_json({"preset": preset})
    book.add_json({"preset": preset, "collection": "accounts"})
    assert [rule.name for rule in book.rules()] == [preset]
    assert book.remove(preset) == 1
