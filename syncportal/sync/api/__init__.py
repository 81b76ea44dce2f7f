"""HTTP API v1 of records, conflicts, history and resources: views parse, authorize, call one verb and render."""
