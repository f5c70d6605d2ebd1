"""Fuzzing of whatever reads bytes of a client. `python -m tests.fuzz`; Makefile: test-fuzz.

repairs  make a mutated file consistent again, so that what is behind its checksums is reached
targets  one function for each format, and where it starts from
one      one target under atheris, in a process of its own
__main__ all of them, with a share of the executions each
"""
