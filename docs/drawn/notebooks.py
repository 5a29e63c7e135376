"""Notebooks as pages of the site, with the outputs that they were saved with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbconvert import MarkdownExporter
from traitlets.config import Config

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import File


def pages(folder: Path, config: MkDocsConfig) -> Iterator[File]:
    """A page for each notebook of a folder, `notebooks/NAME.md`, and the pictures of its outputs beside it."""
    from mkdocs.structure.files import File

    for path in sorted(folder.glob("*.ipynb")):
        text, pictures = rendered(path)
        for name, content in pictures.items():
            yield File.generated(config, f"notebooks/{name}", content=content)
        yield File.generated(config, f"notebooks/{path.stem}.md", content=text)


def rendered(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows by their names."""
    settings = Config()
    settings.HighlightMagicsPreprocessor.enabled = True
    settings.HighlightMagicsPreprocessor.languages = {"occlude": "sql"}
    settings.ExtractOutputPreprocessor.output_filename_template = path.stem + "-{cell_index}-{index}{extension}"
    exporter = MarkdownExporter(config=settings)
    text, resources = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    note = f"*This page is the notebook `docs/notebooks/{path.name}`, as it ran.*\n\n"
    title, _, rest = text.lstrip().partition("\n")
    return f"{title}\n\n{note}{rest}", dict(resources.get("outputs", {}))
