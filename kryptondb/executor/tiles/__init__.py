"""Tiles: blocks of neighboring positions that run as one batch. How a grid is cut, run, priced, and what it holds."""
