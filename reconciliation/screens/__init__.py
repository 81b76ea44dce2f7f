"""The admin's pages about reconciliation: parse, authorize, call one verb, render."""
