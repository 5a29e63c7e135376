"""How an answer was made, in its schema's metadata, so that a file of cells or heat maps explains itself.

Every key begins with `kryptondb.` and every value is text:

    version, statement, plan (JSON), quality ('exact' or 'approximate')
    promise                                         (of a query WITH one: what was asked for, and how it is kept)
    tuning (JSON)                                   (of a batch that tuned itself: which images are exact, and what the
                                                    others ran by)
    expected_ssim                                   (of an approximate one WITH TIME: a number, or 'unknown')
    model, fingerprint, patch ('16x16'), stride, input ('224x224')
    nondeterministic                                (of a model that answers one picture in two ways: why it is said to)
    edges, fill, score, operator, precision, device (of an occlusion experiment)
    heatmap                                         'drop': heat maps and attributions hold base - score
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from kryptondb.optimizer.experiment import Experiment
from kryptondb.optimizer.physical import Occlude, PhysicalPlan, Redundancy, to_json
from kryptondb.version import __version__

PREFIX = "kryptondb."


@dataclass(frozen=True)
class TuningOutcome:
    """What came of a batch that was to tune itself: which images are exact, and what the others ran by.

    Attributes:
        measured: names of those that ran exactly and were measured.
        recipe: what the others ran by, in words; None where they ran exactly too.
        note: how that keeps the promise, or why nothing faster does.
    """

    measured: tuple[str, ...]
    recipe: str | None
    note: str

    @property
    def kind(self) -> Literal["exact", "approximate"]:
        """'approximate' where some image is, else 'exact'."""
        return "exact" if self.recipe is None else "approximate"

    def of(self, image: str) -> str:
        """How one image was made: 'exact' or 'approximate'."""
        return "exact" if image in self.measured else self.kind

    def text(self) -> str:
        """As JSON, for metadata."""
        return json.dumps({"exact": list(self.measured), "others": self.recipe or "exact", "note": self.note})

    @classmethod
    def of_text(cls, text: str) -> TuningOutcome:
        """The inverse of `text`."""
        values = json.loads(text)
        others = None if values["others"] == "exact" else values["others"]
        return cls(tuple(values["exact"]), others, values["note"])


def with_metadata(
    schema: pa.Schema, plan: PhysicalPlan, outcome: TuningOutcome | None = None, unsteady: str | None = None
) -> pa.Schema:
    """The schema of a plan's rows with the plan's metadata.

    Args:
        outcome: of a batch that has tuned itself.
        unsteady: why answers are approximate, where that was found out while the plan ran.
    """
    values = _values(plan)
    if unsteady is not None:
        values |= {"quality": "approximate", "nondeterministic": unsteady}
    if outcome is not None:
        values |= {"quality": outcome.kind, "tuning": outcome.text()}
    if any(isinstance(field.type, pa.FixedShapeTensorType) for field in schema):
        values["heatmap"] = "drop"
    return schema.with_metadata({PREFIX + name: value for name, value in values.items()})


def quality_of(schema: pa.Schema, image: str | None, otherwise: str) -> str:
    """Whether the answer about an image is 'exact' or 'approximate', by the metadata of its rows.

    Args:
        otherwise: of rows that do not say.
    """
    values = schema.metadata or {}
    tuning = values.get(f"{PREFIX}tuning".encode())
    if tuning is not None and image is not None:
        return TuningOutcome.of_text(tuning.decode()).of(image)
    quality: str = values.get(f"{PREFIX}quality".encode(), otherwise.encode()).decode()
    return quality


def _values(plan: PhysicalPlan) -> dict[str, str]:
    values = {
        "version": __version__,
        "statement": plan.statement,
        "plan": to_json(plan),
        "quality": plan.quality.kind,
    }
    if plan.quality.promise is not None:
        values["promise"] = f"{plan.quality.promise} ({plan.quality.note})"
        if plan.quality.kind == "approximate" and plan.quality.promise.ssim is None:
            expected = plan.quality.expected
            values["expected_ssim"] = "unknown" if expected is None else f"{expected:.4f}"
    for node in plan.root.walk():
        asked = node.experiment if isinstance(node, Occlude) else node
        if isinstance(asked, (Experiment, Redundancy)):
            values |= {
                "model": asked.model,
                "fingerprint": asked.fingerprint,
                "patch": _size(asked.patch),
                "stride": _size(asked.stride),
                "input": _size((asked.height, asked.width)),
            }
        if isinstance(node, Occlude):
            values |= {
                "edges": node.experiment.edges,
                "fill": node.experiment.fill,
                "score": node.experiment.score,
                "operator": node.operator.name,
                "precision": node.precision,
                "device": node.device,
            }
            if node.unsteady is not None:
                values["nondeterministic"] = node.unsteady
    return values


def _size(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"
