"""The texts inside an exported program that torch evaluates: symbolic sizes (Python) and tree specs (imports)."""

from __future__ import annotations

import ast
import hashlib
import json
import keyword
import re
from typing import Any


def words(text: str) -> frozenset[str]:
    """A set of words out of a text."""
    return frozenset(text.split())


# The functions of torch's symbolic sizes, as sympy prints them with srepr.
SIZE_FUNCTIONS = words(
    """Add And CeilDiv CeilToInt CleanDiv Equality FloorDiv FloorToInt GreaterThan IntTrueDiv Integer LessThan Max Min
    Mod ModularIndexing Mul Not Or PythonMod Rational StrictGreaterThan StrictLessThan Symbol ToFloat TruncToInt
    Unequality Where"""
)
SIZE_SYMBOL = re.compile(r"(s|u|z|zf|zuf)\d{1,9}")
SIZE_SYNTAX = (
    *(ast.Expression, ast.Load, ast.keyword, ast.BinOp, ast.UnaryOp),
    *(ast.USub, ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod),
)
MAX_SIZE_TEXT = 4096
TREE_TYPES = ("builtins.tuple", "builtins.list", "builtins.dict")


def is_identifier(text: object) -> bool:
    """Whether a text is a plain Python name: it may stand in the source that torch writes for a graph."""
    return (
        isinstance(text, str)
        and re.fullmatch(r"[A-Za-z_]\w{0,255}", text, re.ASCII) is not None
        and not keyword.iskeyword(text)
    )


def plain_name(text: object) -> str | None:
    """The name of a weight as a path of attributes that mean nothing else in Python; None for what is no name.

    Names of letters, digits, `_` and `-` stay as they are. Others, as those of Keras with a slash, are spelled plainly
    and end in a digest of the whole name, so that two stay two.
    """
    if not isinstance(text, str) or len(text) > MAX_SIZE_TEXT:
        return None
    parts = text.split(".")
    if len(text) <= 512 and all(_is_plain_part(part) for part in parts):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    spelled = re.sub(r"\W+", "_", parts[-1], flags=re.ASCII).strip("_")[:200]
    before = [part for part in parts[:-1] if _is_plain_part(part)][:16]
    return ".".join([*(part[:200] for part in before), f"{spelled}_{digest}" if spelled else f"named_{digest}"])


def _is_plain_part(part: str) -> bool:
    import torch

    return (
        re.fullmatch(r"[\w-]{1,200}", part, re.ASCII) is not None
        and not part.startswith("__")
        and not keyword.iskeyword(part)
        and not hasattr(torch.fx.GraphModule, part)
    )


def is_size_expression(text: object) -> bool:
    """Whether a text is a symbolic size: `Mul(Integer(2), Symbol('s77', positive=True, integer=True))` or `2*s77`.

    Integers, torch's symbols, calls of `SIZE_FUNCTIONS` by name and + - * // % are all there may be.
    """
    if not isinstance(text, str) or len(text) > MAX_SIZE_TEXT:
        return False
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    functions = {id(call.func) for call in calls}
    symbols = {id(call.args[0]) for call in calls if _is_symbol(call)}

    def allowed(node: ast.AST) -> bool:
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name)
        if isinstance(node, ast.Name):
            return node.id in SIZE_FUNCTIONS if id(node) in functions else SIZE_SYMBOL.fullmatch(node.id) is not None
        if isinstance(node, ast.Constant):
            if id(node) in symbols:
                return isinstance(node.value, str) and SIZE_SYMBOL.fullmatch(node.value) is not None
            return isinstance(node.value, int) and abs(node.value) < 1 << 63  # True and False are integers
        return isinstance(node, SIZE_SYNTAX)

    return all(allowed(node) for node in nodes)


def clean_tree_spec(text: object, any_keys: bool = False) -> str | None:
    """How inputs or outputs are nested, as `treespec_dumps` writes it, made again from its parts.

    None unless it is all tuples, lists, and dicts whose keys are identifiers, or any texts where those are allowed:
    torch writes the keys of inputs into Python source, those of outputs it keeps as they are.
    """
    try:
        spec = json.loads(text) if isinstance(text, str) else None
        if not isinstance(spec, list) or len(spec) != 2 or spec[0] != 1:
            return None
        return json.dumps([1, _tree(spec[1], any_keys)])
    except (ValueError, TypeError, RecursionError):
        return None


def _tree(spec: Any, any_keys: bool) -> dict[str, Any]:
    if not isinstance(spec, dict) or not isinstance(spec.get("children_spec"), list):
        raise TypeError("no tree spec")
    children = [_tree(child, any_keys) for child in spec["children_spec"]]
    kind, context = spec.get("type"), "null"
    if kind is None and not children:
        return {"type": None, "context": None, "children_spec": []}
    if kind not in TREE_TYPES:
        raise ValueError(f"a structure of type {kind!r}")
    if kind == "builtins.dict":
        keys = json.loads(spec["context"]) if isinstance(spec.get("context"), str) else None
        if not isinstance(keys, list) or len(keys) != len(children) or not all(_is_key(key, any_keys) for key in keys):
            raise ValueError("a dict of other keys")
        context = json.dumps(keys)
    return {"type": kind, "context": context, "children_spec": children}


def _is_key(key: object, any_key: bool) -> bool:
    return (isinstance(key, str) and len(key) <= MAX_SIZE_TEXT) if any_key else is_identifier(key)


def _is_symbol(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "Symbol" and len(call.args) == 1
