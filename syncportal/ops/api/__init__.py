"""Operation over HTTP: alerts, the numbers of the dashboard, and the same for Prometheus."""
