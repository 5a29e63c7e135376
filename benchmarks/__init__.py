"""Benchmarks: one command each, which runs KryptonDB and its peers side by side in one process and prints a table."""
