"""Sinks of COPY and of the command line: where rows are written, and as what."""
