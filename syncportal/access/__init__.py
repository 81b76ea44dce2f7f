"""Who may call: API keys, roles, idempotency keys and the shape of API errors."""
