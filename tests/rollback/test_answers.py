"""What a client is told: `rolledBack` and the top status, as tables."""

import pytest

from rollback.answers import http_status, rolled_back, rolled_back_of_all, top_status

GROUPS = {
    "applied": None, "running": None, "rejected": True, "rolled_back": True, "compensated": True,
    "compensating": False, "needs_attention": False,
}  # fmt: skip


@pytest.mark.parametrize(("status", "said"), GROUPS.items())
def test_a_group_says_whether_all_of_it_is_undone(status: str, said: bool | None) -> None:
    assert rolled_back(status) is said


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        (["applied"], None),
        (["applied", "applied"], None),
        (["running", "needs_attention"], None),
        (["applied", "rolled_back"], True),
        (["rejected", "compensated"], True),
        (["applied", "compensating"], False),
        (["rolled_back", "needs_attention"], False),
    ],
)
def test_a_request_says_it_of_the_groups_that_are_not_applied(statuses: list[str], said: bool | None) -> None:
    assert rolled_back_of_all(statuses) is said


ORDER = ["running", "needs_attention", "compensating", "compensated", "rolled_back", "rejected", "applied"]


@pytest.mark.parametrize("first", range(len(ORDER)))
def test_the_top_status_is_the_first_of_the_contracts_order(first: int) -> None:
    assert top_status(reversed(ORDER[first:])) == ORDER[first]


def test_only_a_request_whose_groups_are_all_applied_is_200() -> None:
    assert (http_status(["applied", "applied"]), http_status(["applied", "rejected"])) == (200, 207)
