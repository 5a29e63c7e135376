"""What came of a batch that was to tune itself: which images are exact, and what the others ran by."""

from __future__ import annotations

import json
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How the images of a batch were made.

    Attributes:
        measured: names of those that ran exactly and were measured.
        recipe: what the others ran by, in words; None where they ran exactly too.
        note: how that keeps the promise, or why nothing faster does.
    """

    measured: tuple[str, ...]
    recipe: str | None
    note: str

    @property
    def kind(self) -> str:
        """'approximate' where some image is, else 'exact'."""
        return "exact" if self.recipe is None else "approximate"

    def of(self, image: str) -> str:
        """How one image was made: 'exact' or 'approximate'."""
        return "exact" if image in self.measured else self.kind

    def text(self) -> str:
        """As JSON, for metadata."""
        return json.dumps({"exact": list(self.measured), "others": self.recipe or "exact", "note": self.note})

    @classmethod
    def of_text(cls, text: str) -> Outcome:
        """The inverse of `text`."""
        told = json.loads(text)
        return cls(tuple(told["exact"]), None if told["others"] == "exact" else told["others"], told["note"])
