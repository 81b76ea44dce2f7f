"""The database in memory that crash runs share."""

from tests.crash.engine import base as base
