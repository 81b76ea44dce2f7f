"""Operation over HTTP: the numbers of the dashboard, and the same for Prometheus."""
