"""A small master API with switchable faults, the same one for the demo, drills, tests and benchmarks.

Owns: a real HTTP server on the loopback interface, its collections, its fault rules and its logs.
Guarantees: every applied write is in the write log, once and in order; nothing here imports Django or the product.
Does not: protect anything. It is a stand-in for somebody else's server and must never face a network.
"""

from syncportal.demo.client import DemoControl
from syncportal.demo.faults import Fault, FaultBook, FaultError
from syncportal.demo.server import DemoMaster
from syncportal.demo.spec import Collection, accounts, shifts
from syncportal.demo.store import Refused, Store, Write

__all__ = [
    "Collection",
    "DemoControl",
    "DemoMaster",
    "Fault",
    "FaultBook",
    "FaultError",
    "Refused",
    "Store",
    "Write",
    "accounts",
    "shifts",
]
