"""Indexes cost each write: none is kept that another one does the work of."""

import pytest
from django.apps import apps
from django.db import connection, models

OURS = ("syncportal.", "rollback.", "reconciliation.")
RELATIONS = [
    (model, field)
    for model in apps.get_models()
    if model.__module__.startswith(OURS)
    for field in model._meta.local_fields
    if isinstance(field, models.ForeignKey) and not field.unique
]


def leading(model: type[models.Model]) -> set[str]:
    """Return the fields that an index of all rows begins with."""
    found = [list(index.fields) for index in model._meta.indexes if index.condition is None]
    found += [
        list(constraint.fields)
        for constraint in model._meta.constraints
        if isinstance(constraint, models.UniqueConstraint) and constraint.condition is None
    ]
    return {fields[0].lstrip("-") for fields in found if fields}


def test_no_relation_has_an_index_that_another_one_begins_with():
    double = [f"{model._meta.label}.{field.name}" for model, field in RELATIONS
              if field.db_index and field.name in leading(model)]  # fmt: skip
    assert double == []


@pytest.mark.db
@pytest.mark.django_db
def test_the_database_has_the_indexes_of_relations_that_the_models_say():
    wrong = []
    with connection.cursor() as cursor:
        for model, field in RELATIONS:
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
            alone = any(one["index"] and not one["unique"] and one["columns"] == [field.column]
                        and name not in {index.name for index in model._meta.indexes}
                        for name, one in found.items())  # fmt: skip
            if alone is not field.db_index:
                wrong.append(f"{model._meta.label}.{field.name}")
    assert RELATIONS
    assert wrong == []
