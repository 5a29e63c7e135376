"""Tests of the grammar: text in, statements out, and good words when a text is neither."""
