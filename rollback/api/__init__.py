"""Grouped updates and compensating tasks over HTTP: parse, authorize, call one function, answer."""
