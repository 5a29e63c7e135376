"""How results, values, sizes, times, progress and errors look in a terminal or notebook."""
