"""What the documents print from the code is what the code says."""

from pathlib import Path

from reconciliation.states import diagrams as diagrams_of_reconciliation
from rollback.states import diagrams
from syncportal.ops.alerts.states import diagrams as alert_diagrams
from syncportal.sync.states import diagram

ARCHITECTURE = (Path(__file__).resolve().parents[2] / "ARCHITECTURE.md").read_text()


def test_the_record_diagram_in_the_document_is_printed_from_the_verbs() -> None:
    assert diagram().strip() in ARCHITECTURE


def test_the_group_and_task_diagrams_are_printed_from_the_verbs() -> None:
    for part in diagrams().strip().split("\n\n"):
        assert part.strip() in ARCHITECTURE


def test_the_alert_and_delivery_diagrams_are_printed_from_the_verbs() -> None:
    for part in alert_diagrams().strip().split("\n\n"):
        assert part.strip() in ARCHITECTURE


def test_the_run_and_discrepancy_diagrams_are_printed_from_the_verbs() -> None:
    for part in diagrams_of_reconciliation().strip().split("\n\n"):
        assert part.strip() in ARCHITECTURE
