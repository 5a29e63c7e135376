"""Every test case that the package onnx has for one operator, run by KryptonDB and compared with the expected answer.

    python -m benchmarks.onnx_nodes

A case's first floating point input is the picture and its other inputs are constants of the file, as in files of
networks. Each runs twice: with sizes as they are, and with the first side as the number of pictures. Ends with 1
when an answer is wrong, or an error is not KryptonDB's own.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from kryptondb.catalog.onnx_models.reading import OnnxFile
from kryptondb.catalog.onnx_models.translation import OPERATORS, Translation
from kryptondb.errors import ModelError

TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
#: Sizes that are not whole numbers: onnxruntime rounds them before it aligns corners, and KryptonDB follows it.
AS_ONNXRUNTIME = (
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
)

Array = NDArray[Any]


@dataclass(frozen=True)
class Answer:
    """What became of a case: 'right', 'wrong', 'refused' or 'raised', and why."""

    case: str
    operator: str
    outcome: str
    reason: str = ""


def cases() -> list[Any]:
    """The package's cases of one operator that KryptonDB has a handler for, with arrays in and out."""
    from onnx.backend.test.case.node import collect_testcases  # makes them: seconds

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    return [case for case in found if _is_of_one_operator(case)]


def answers(case: Any) -> Iterator[Answer]:
    """What KryptonDB makes of each result of a case, for sizes as they are and for any number of pictures."""
    inputs, outputs = case.data_sets[0]
    graph = case.model.graph
    node = graph.node[0]
    place = _picture(inputs)
    names = [value.name for value in graph.input]
    constants = [
        onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in zip(names, inputs, strict=True)
        if name != names[place]
    ]
    opset = next(entry.version for entry in case.model.opset_import if entry.domain == "")
    alone = onnx.helper.make_graph([node], "case", [graph.input[place]], list(graph.output), constants)
    file = OnnxFile(case.name, alone, opset)
    picture = inputs[place]
    for name, expected in zip(filter(None, node.output), outputs, strict=False):
        for static in (True, False):
            shape = picture.shape if static else picture.shape[1:]
            try:
                module = Translation(file, names[place], name, shape, static=static).module(name, scores=False)
                with torch.no_grad():
                    got = module(torch.from_numpy(np.array(picture))).numpy()
            except ModelError as error:
                yield Answer(case.name, node.op_type, "refused", str(error).splitlines()[0])
                continue
            except Exception as error:  # what this is here to find
                yield Answer(case.name, node.op_type, "raised", repr(error)[:200])
                continue
            right = got.shape == expected.shape and np.allclose(got, expected, equal_nan=True, **TOLERANCE)  # type: ignore[arg-type]
            yield Answer(case.name, node.op_type, "right" if right else "wrong", f"{got.shape} for {expected.shape}")


def _is_of_one_operator(case: Any) -> bool:
    graph = case.model.graph
    if len(graph.node) != 1 or graph.node[0].op_type not in OPERATORS or case.name in AS_ONNXRUNTIME:
        return False
    inputs, outputs = case.data_sets[0]
    arrays = all(isinstance(value, np.ndarray) for value in (*inputs, *outputs))
    return arrays and any(_is_picture(value) for value in inputs)


def _is_picture(value: Array) -> bool:
    return value.dtype == np.float32 and value.ndim > 0


def _picture(inputs: Sequence[Array]) -> int:
    return next(place for place, value in enumerate(inputs) if _is_picture(value))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs all cases and prints what became of them."""
    options = _parse(arguments)
    console = Console()
    found = [answer for case in cases() for answer in answers(case)]
    table = Table("operator", "right", "refused", "wrong", "raised")
    for operator in sorted({answer.operator for answer in found}):
        counts = Counter(answer.outcome for answer in found if answer.operator == operator)
        table.add_row(operator, *(str(counts[key] or "") for key in ("right", "refused", "wrong", "raised")))
    counts = Counter(answer.outcome for answer in found)
    table.add_section()
    table.add_row("all", *(str(counts[key]) for key in ("right", "refused", "wrong", "raised")))
    console.print(table)
    shown = ("wrong", "raised", "refused") if options.refused else ("wrong", "raised")
    for answer in found:
        if answer.outcome in shown:
            console.print(f"{answer.outcome} {answer.reason} ({answer.case})", markup=False)
    return 1 if counts["wrong"] + counts["raised"] else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.onnx_nodes", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--refused", action="store_true", help="list what is refused too, with the reason")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
