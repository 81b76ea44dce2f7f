"""The example configurations in the documentation are what `manage.py configure` accepts."""

from pathlib import Path

import pytest

from syncportal.remote import configuration

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml"))


@pytest.mark.django_db
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_an_example_can_be_applied_as_it_stands(file) -> None:
    document = configuration.parse(file.read_text(), filename=file.name)
    configuration.apply(configuration.plan(document))
    assert configuration.plan(document).changes == ()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9
