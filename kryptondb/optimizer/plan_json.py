"""Plans as JSON: a dataclass is an object that names its class, an expression is `{"sql": text}`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from kryptondb.errors import Error, PlanError, did_you_mean
from kryptondb.grammar.statements import Expression
from kryptondb.optimizer.grid_cells import CellsByKind
from kryptondb.text.plain_text import plain_json

VERSION = 2
#: What an `Occlude` held itself in version 1, where a plan had no `Experiment`.
_EXPERIMENT_FIELDS = (
    *("model", "fingerprint", "channels", "height", "width", "class_count", "patch", "stride", "fill", "score"),
    *("classes", "edges", "runs", "image_filter"),
)


def encode(plan: Any, classes: Sequence[type[Any]]) -> str:
    """A dataclass of plain data, of dataclasses in `classes`, of expressions and of operators, as JSON text."""
    text = json.dumps({"kryptondb_plan": VERSION, **_encode(plan, frozenset(classes))}, indent=1, ensure_ascii=False)
    return plain_json(text)  # paths may hold bytes that are not UTF-8


def decode(text: str, expected: type[Any], classes: Sequence[type[Any]], operators: Sequence[type[Any]]) -> Any:
    """The inverse of `encode`: an instance of `expected`. Lists come back as tuples.

    Raises:
        PlanError: not JSON, of an unknown version, or with a class, field or operator that is unknown here.
    """
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise PlanError(f"a plan must be JSON: {error}") from None
    version = tree.pop("kryptondb_plan", None) if isinstance(tree, dict) else None
    if version == 1:
        tree = _from_version_1(tree)
    elif version != VERSION:
        raise PlanError(f"this is not a plan of version {VERSION}" + (f" but of {version}" if version else ""))
    plan = _Decoder(classes, operators).decode(tree)
    if not isinstance(plan, expected):
        raise PlanError(f"expected a {expected.__name__}, found a {type(plan).__name__}")
    return plan


def _from_version_1(tree: Any) -> Any:
    """A plan of version 1 as this version writes it. A batch that would tune itself runs exactly: more is known now."""
    if isinstance(tree, list):
        return [_from_version_1(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    node = {name: _from_version_1(value) for name, value in tree.items()}
    if node.get("node") == "Occlude":
        asked = {name: node.pop(name) for name in _EXPERIMENT_FIELDS if name in node}
        asked |= {"node": "Experiment", "images": node.pop("input", None), "precision": node.get("precision")}
        node |= {"experiment": asked, "tuning": None}
    return node


def _encode(value: Any, classes: frozenset[type[Any]]) -> Any:
    if isinstance(value, Expression):
        return {"sql": str(value)}
    if isinstance(value, CellsByKind):
        held = np.packbits(value.held, axis=1).tobytes().hex()
        return {"cells": [value.rows.tolist(), value.cols.tolist(), *value.held.shape, held]}
    if isinstance(value, (list, tuple)):
        return [_encode(item, classes) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field for field in dataclasses.fields(value) if field.name != "position"]
        values = {field.name: _encode(getattr(value, field.name), classes) for field in fields}
        if type(value) in classes:
            return {"node": type(value).__name__, **values}
        return {"operator": value.name, **values}  # type: ignore[attr-defined]
    return value


class _Decoder:
    def __init__(self, classes: Sequence[type[Any]], operators: Sequence[type[Any]]) -> None:
        self.classes = {cls.__name__: cls for cls in classes}
        self.operators = {cls.name: cls for cls in operators}

    def decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self.decode(item) for item in value)
        if not isinstance(value, dict):
            return value
        if "sql" in value:
            return _expression(value["sql"])
        if "cells" in value:
            return _cells(value["cells"])
        fields = {name: self.decode(item) for name, item in value.items() if name not in ("node", "operator")}
        if "node" in value:
            # An operator stands under a field of that name: `{"node": "Occlude", "operator": {...}}`.
            if "operator" in value:
                fields["operator"] = self.decode(value["operator"])
            return self._build(self.classes, value["node"], fields, "plan node")
        return self._build(self.operators, value.get("operator"), fields, "operator")

    @staticmethod
    def _build(known: dict[str, type[Any]], name: Any, fields: dict[str, Any], what: str) -> Any:
        if not isinstance(name, str) or name not in known:
            raise PlanError(f'this version has no {what} named "{name}"', hint=did_you_mean(str(name), known))
        try:
            return known[name](**fields)
        except TypeError as error:
            raise PlanError(f"a {what} {name} cannot be made of the fields in this plan: {error}") from None


def _cells(encoded: Any) -> CellsByKind:
    try:
        rows, cols, row_kinds, col_kinds, held = encoded
        bits = np.frombuffer(bytes.fromhex(held), dtype=np.uint8).reshape(row_kinds, -1)
        held = np.unpackbits(bits, axis=1, count=col_kinds).astype(bool)
        rows, cols = (np.array(kinds, dtype=np.int64) for kinds in (rows, cols))
        if min(rows.min(), cols.min()) < 0 or rows.max() >= row_kinds or cols.max() >= col_kinds:
            raise ValueError("a kind that is not there")
    except (TypeError, ValueError, OverflowError) as error:
        raise PlanError(f"a plan holds cells that cannot be read: {error}") from None
    return CellsByKind(rows, cols, held)


def _expression(text: Any) -> Expression:
    from kryptondb.grammar import parse_expression

    try:
        return parse_expression(str(text))
    except Error as error:
        raise PlanError(f"a plan holds an expression that cannot be read: {text} ({error.message})") from None
