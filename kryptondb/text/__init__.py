"""Texts of all packages: quantities in words, and text that is safe to show in a terminal."""
