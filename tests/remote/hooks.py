"""A signing hook as somebody would write one."""

import base64


def sign(request) -> None:
    """Sign with basic authentication, by hand."""
    request.headers["Authorization"] = "Basic " + base64.b64encode(request.credential.encode()).decode()
