"""Fuzzing of whatever reads bytes of a client. `python -m tests.fuzz`; Makefile: test-fuzz.

repairs        make a mutated file consistent again, so that what is behind its checksums is reached
head_archives  change a head archive in one of its files and put it together again
taking         give it to a whole engine, with a database
targets        one function for each format, and where it starts from
one            one target under atheris, in a process of its own
__main__       all of them, with a share of the executions each
"""
