"""The line that CREATE MODEL prints, and what DESCRIBE says about a network."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from kryptondb.catalog import Catalog, Model, ModelStore, describe_network, summary_line
from kryptondb.catalog.describe import label_preview
from tests.networks import small_net

TAIL = SimpleNamespace(node="flatten", operator="aten.flatten.using_ints", reason="mixes rows and columns")


def network(**changes: Any) -> SimpleNamespace:
    known = {"traced": True, "failure": None, "tail": TAIL, "flops": 3.64e9, "input_shape": (3, 32, 32), "nodes": ()}
    known |= {"undivided": None, "unsteady": None}
    return SimpleNamespace(**{**known, **changes})


@pytest.fixture
def model() -> Model:
    return ModelStore(Catalog()).register("net", small_net(), size=16)


@pytest.fixture(autouse=True)
def redundancy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redundancy ratio of 2.24, wherever the real one is."""
    module = ModuleType("kryptondb.network.regions")
    module.redundancy_table = lambda *_: [SimpleNamespace(ratio=1.0), SimpleNamespace(ratio=2.24)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kryptondb.network.regions", module)


def test_the_summary_says_how_far_the_model_runs_incrementally(model: Model) -> None:
    start = "net: 145 parameters, 16 x 16 RGB, 5 classes"
    assert summary_line(model) == start
    assert summary_line(model, network()) == f"{start}, incremental down to the classifier, R 2.2"
    assert summary_line(model, network(tail=None)) == f"{start}, incremental throughout, R 2.2"
    other = SimpleNamespace(node="softmax_3", operator="aten.softmax.int", reason="")
    assert summary_line(model, network(tail=other)) == f"{start}, incremental down to softmax_3, R 2.2"
    assert summary_line(model, network(traced=False)) == f"{start}, full inference only (it could not be traced)"


def test_a_network_that_needs_whole_batches_is_not_called_incremental(model: Model) -> None:
    together = network(undivided="its scores depend on the other pictures of their batch")
    assert summary_line(model, together).endswith("(its scores depend on the other pictures of their batch)")


def test_a_transformer_is_not_called_incremental_down_to_its_classifier(model: Model) -> None:
    def dense(operator: str, flops: float) -> SimpleNamespace:
        return SimpleNamespace(rule=SimpleNamespace(value="dense"), operator=operator, flops=flops)

    head = (dense("flatten", 0.0), dense("linear", 1e6))
    assert "down to the classifier" in summary_line(model, network(nodes=head))
    assert "down to flatten" in summary_line(model, network(nodes=(*head, dense("matmul", 1e6))))
    attention = dense("scaled_dot_product_attention", 0.0)
    assert "down to flatten" in summary_line(model, network(nodes=(*head, attention)))


def test_a_patch_that_does_not_fit_has_no_redundancy(model: Model) -> None:
    line = summary_line(model, network(input_shape=(3, 8, 8)))
    assert line.endswith("down to the classifier")


def test_a_traced_network_is_described() -> None:
    assert describe_network(network()) == [
        ("traced", "yes"),
        ("incremental", "up to the classifier"),
        ("tail", "flatten (aten.flatten.using_ints): mixes rows and columns"),
        ("GFLOPs", "3.64"),
        ("redundancy", "2.2 (patch 16, stride 4)"),
    ]
    assert ("incremental", "up to the scores") in describe_network(network(tail=None))


def test_a_network_that_could_not_be_traced_says_why() -> None:
    rows = dict(describe_network(network(traced=False, failure="a loop over pixels")))
    assert rows["traced"] == "no: a loop over pixels"


def test_long_lists_of_labels_are_cut() -> None:
    assert label_preview(("a", "b")) == "a, b"
    assert label_preview(tuple("abcdef")) == "a, b, c, ... f"
