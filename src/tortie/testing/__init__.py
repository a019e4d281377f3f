"""What tests and benchmarks stand on, shipped so that others can test against Tortie too: what this machine can do
(`capabilities`), and stand-ins that pass the same suites as the real thing.
"""
