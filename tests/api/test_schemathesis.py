"""Requests made up from the description: no failure of ours, no answer that the description does not know."""

from typing import Any

import pytest
import schemathesis
import yaml
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.test_openapi import COMMITTED
from tests.api.world import (
    World,
    differing,
    draft_retry,
    error_group,
    exchange,
    failed_task,
    happened,
    in_conflict,
    open_alert,
)


def no_failure_of_ours(ctx: Any, response: Any, case: Any) -> bool | None:
    """Fail on 5xx answers, except those that say that the remote (here: nobody) did not answer."""
    if response.status_code == 502 and response.json()["code"] == "remote_failed":
        return None
    return not_a_server_error(ctx, response, case)


CHECKS = [
    no_failure_of_ours,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
DESCRIPTION = yaml.load(COMMITTED.read_text("utf-8"), Loader=yaml.CSafeLoader)
OPERATIONS = [(verb.upper(), path) for path, operations in DESCRIPTION["paths"].items() for verb in operations]


@pytest.fixture(scope="module")
def schema() -> Any:
    """Return the description, ready to make requests from."""
    made = schemathesis.openapi.from_dict(DESCRIPTION)
    made.app = get_wsgi_application()
    return made


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_made_up_requests(schema: Any, method: str, path: str) -> None:
    world = World()
    task = failed_task(world.others, world.people["owner"])
    difference = differing(world.others)
    ids: dict[str, Any] = {
        "reconciliation-runs": difference.run_id, "discrepancies": difference.pk,
        "records": world.record.pk, "conflicts": in_conflict(world.record).pk, "grouped-updates": task.request_id,
        "compensating-tasks": str(task.task_id), "alerts": open_alert(world.others.resource).pk,
        "error-groups": error_group(world.resource, world.people["owner"]).pk,
        "bulk-operations": draft_retry(world.people["operator"], world.record).pk,
    }  # fmt: skip
    exchange(world.record)
    happened(world.record)
    key = world.caller("operator")._credentials["HTTP_AUTHORIZATION"]
    operation = schema[path][method]

    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), real=st.booleans())
    def ask(case: Any, real: bool) -> None:
        if real:  # made-up ids rarely exist
            case.path_parameters = {
                name: world.resource.slug if name == "slug" else str(ids[path.split("/")[3]])
                for name in case.path_parameters or {}
            }
        case.call_and_validate(headers={"Authorization": key}, checks=CHECKS)

    ask()
