"""A small master API with switchable faults: for the demo, drills, tests and benchmarks."""
