"""A send that may still arrive, but says what the remote already holds, leaves nobody in doubt."""

from syncportal.sync.decisions import Next, judge
from tests.factories import T0, a_claim, a_send, shown, spec_of

BASE = {"id": "A", "name": "Ada", "version": 8}


def test_a_claim_with_nothing_to_say_whose_worker_died_is_settled_by_the_read_back() -> None:
    claim = a_claim(BASE, BASE, version="8", sends=(a_send(BASE, version="8"),))
    decision = judge(claim, shown(BASE), spec=spec_of(), now=T0)
    assert (decision.next, decision.sends) == (Next.COMPLETE, ())


def test_a_send_of_other_content_is_fenced_while_the_version_it_expects_stands() -> None:
    other = a_send({**BASE, "name": "Bea"}, version="8")
    claim = a_claim(BASE, BASE, version="8", sends=(other,))
    decision = judge(claim, shown(BASE), spec=spec_of(), now=T0)
    assert (decision.next, decision.sends) == (Next.FENCE, (other,))
