"""Writes the tables of options into the reference pages, from the rows in `kryptondb.options`."""

from __future__ import annotations

from pathlib import Path

from kryptondb.options.reference import filled_in

for page in sorted((Path(__file__).parent / "pages/language").glob("*.md")):
    text = page.read_text(encoding="utf-8")
    if filled_in(text) != text:
        page.write_text(filled_in(text), encoding="utf-8")
        print(f"{page.name}: written")
