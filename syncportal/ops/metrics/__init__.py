"""The numbers of the installation, read in one go: for the dashboard, the API and /metrics."""
