"""Tests of the magics: statements in cells, with a notebook's variables, completion and progress."""
