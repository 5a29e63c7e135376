"""What DESCRIBE says about a model, and the one line that CREATE MODEL prints."""

from __future__ import annotations

from typing import Any

from kryptondb.catalog.model import Model
from kryptondb.catalog.options import describe_preprocess

Row = tuple[str, str]

CLASSIFIER = ("linear", "flatten", "view", "reshape", "addmm")  # operators that a classifier's head begins with
FULLY_CONNECTED = ("linear", "addmm", "mm")
PATCH, STRIDE = 16, 4  # the query's defaults, for the redundancy ratio


def describe_model(model: Model) -> list[Row]:
    """The rows that the model itself knows."""
    return [
        ("architecture", model.architecture),
        ("weights", model.weights),
        ("parameters", f"{model.parameters:,}"),
        ("input", input_size(model)),
        ("classes", f"{model.classes:,}"),
        ("labels", label_preview(model.labels)),
        ("preprocessing", describe_preprocess(model.preprocess)),
        ("fingerprint", model.fingerprint),
    ]


def describe_network(network: Any) -> list[Row]:
    """The rows that a traced `kryptondb.network.Network` adds: how far it runs incrementally, and what it costs."""
    rows = [] if network.unsteady is None else [("deterministic", f"no: {network.unsteady}")]
    if not network.traced:
        return [*rows, ("traced", f"no: {network.failure}"), ("incremental", "no: every position is a full inference")]
    if network.undivided is not None:
        rows += [("traced", "yes"), ("incremental", f"no: {network.undivided}")]
        return [*rows, ("GFLOPs", f"{network.flops / 1e9:.3g}")]
    rows += [("traced", "yes"), ("incremental", f"up to {extent(network)}")]
    if network.tail is not None:
        rows.append(("tail", f"{network.tail.node} ({network.tail.operator}): {network.tail.reason}"))
    rows.append(("GFLOPs", f"{network.flops / 1e9:.3g}"))
    ratio = redundancy(network)
    if ratio is not None:
        rows.append(("redundancy", f"{ratio:.1f} (patch {PATCH}, stride {STRIDE})"))
    return rows


def summary_line(model: Model, network: Any = None) -> str:
    """`imagenet: 4.7 M parameters, 224 x 224 RGB, 1,000 classes, incremental down to the classifier, R 2.2`.

    Args:
        network: the traced network; without it the line ends after the classes.
    """
    parts = [f"{_amount(model.parameters)} parameters", input_size(model), f"{model.classes:,} classes"]
    if network is not None and not network.traced:
        parts.append("full inference only (it could not be traced)")
    elif network is not None and network.undivided is not None:
        parts.append(f"full inference only ({network.undivided})")
    elif network is not None:
        parts.append("incremental " + ("throughout" if network.tail is None else f"down to {extent(network)}"))
        ratio = redundancy(network)
        if ratio is not None:
            parts.append(f"R {ratio:.1f}")
    return f"{model.name}: {', '.join(parts)}"


def extent(network: Any) -> str:
    """Where incremental execution ends: 'the scores', 'the classifier', or a node's name."""
    if network.tail is None:
        return "the scores"
    operator = str(network.tail.operator).rpartition("aten.")[2].partition(".")[0]
    return "the classifier" if operator in CLASSIFIER and _only_a_head_follows(network) else str(network.tail.node)


def _only_a_head_follows(network: Any) -> bool:
    """Whether all that multiplies in the dense tail is fully connected; transformers begin theirs with a view, too."""
    dense = [node for node in network.nodes if node.rule.value == "dense"]
    return all(
        (not node.flops or node.operator in FULLY_CONNECTED) and "attention" not in node.operator for node in dense
    )


def redundancy(network: Any) -> float | None:
    """R of the whole grid at the default patch and stride; None where the patch does not fit or nothing is known."""
    try:
        from kryptondb.network.grid import Grid
        from kryptondb.network.regions import redundancy_table
    except ImportError:
        return None
    _, height, width = network.input_shape
    try:
        rows = redundancy_table(network, Grid(height, width, (PATCH, PATCH), (STRIDE, STRIDE)))
    except ValueError:
        return None
    return float(rows[-1].ratio) if rows else None


def input_size(model: Model) -> str:
    """`224 x 224 RGB`."""
    return f"{model.preprocess.height} x {model.preprocess.width} {model.preprocess.channels}"


def label_preview(labels: tuple[str, ...]) -> str:
    """The first few labels and how many more there are."""
    shown = ", ".join(labels[:3])
    return shown if len(labels) <= 3 else f"{shown}, ... {labels[-1]}"


def _amount(count: int) -> str:
    """`4.7 M`, `12 k`, `840`."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= unit:
            value = count / unit
            return f"{value:.1f} {name}" if value < 99.95 else f"{value:,.0f} {name}"
    return str(count)
