"""Alerts: problems come to people. Rules over what is observed, open incidents, notices on their way out."""
