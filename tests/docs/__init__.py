"""Tests of the site: its examples and its notebooks run as they stand."""
