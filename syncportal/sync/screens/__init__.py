"""The admin's pages about records: parse, authorize, call one verb, render."""
