"""WITH TIME in a session: answered in rounds, said to be approximate, exact where there is time, and interruptible."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import kryptondb
from kryptondb.executor import calibrate
from kryptondb.executor.operators.incremental import Incremental
from kryptondb.executor.resources import Deadline
from kryptondb.optimizer.cost import Rates
from tests.networks import small_network

RANDOM = np.random.default_rng(0)
PICTURES = [RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]
QUERY = "SELECT HEATMAP FROM occlude(net, ?, patch => 4, stride => 2) "
CELLS = QUERY.replace("HEATMAP", "image, row, col, score, exact")
ROUNDS = "WITH TIME <= 600 SECONDS USING operator => 'anytime'"


@pytest.fixture
def db(monkeypatch: pytest.MonkeyPatch) -> Iterator[kryptondb.Session]:
    """On a device that is slow by its rates, so that what is planned does not depend on the machine."""
    monkeypatch.setattr(calibrate, "measure", lambda _: Rates(flops_per_second=1e7))
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32, labels=["a", "b", "c"])
        session.sql("SET threads = 1")
        yield session


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that is over as soon as there are a few cells."""
    monkeypatch.setattr(Deadline, "spent", property(lambda self: 1e9))


def test_with_time_enough_rounds_end_with_the_exact_map(db):
    exact, rounds = (db.sql(QUERY + text, [PICTURES]) for text in ("", ROUNDS))
    np.testing.assert_allclose(rounds.heatmaps(), exact.heatmaps(), atol=1e-6)
    assert rounds.plan.quality.kind == "approximate"  # which is all that is known before
    assert all(db.sql(CELLS + ROUNDS, [PICTURES]).arrow()["exact"].to_pylist())


def test_where_the_exact_plan_fits_it_runs(db):
    plan = db.sql(QUERY + "WITH TIME <= 600 SECONDS", [PICTURES]).plan
    assert plan.quality.kind == "exact" and plan.occlude.operator.name == "incremental"


def test_cells_that_there_was_no_time_for_say_so(db, short):
    exact = db.sql(CELLS, [PICTURES]).df()
    rounds = db.sql(CELLS + ROUNDS, [PICTURES]).df()
    both = exact.merge(rounds, on=["image", "row", "col"], suffixes=("", "_now"))
    assert len(both) == len(exact) == len(rounds)
    computed = both[both["exact_now"]]
    assert 0 < len(computed) < len(both) and set(computed["image"]) == set(both["image"])
    np.testing.assert_allclose(computed["score_now"], computed["score"], atol=1e-6)
    assert np.isfinite(both["score_now"]).all()


def test_the_answer_says_what_was_asked_and_that_no_ssim_is_known(db, short):
    result = db.sql(QUERY + ROUNDS, [PICTURES[0]])
    metadata = result.schema.metadata
    assert metadata[b"kryptondb.quality"] == b"approximate" and metadata[b"kryptondb.operator"] == b"anytime"
    assert metadata[b"kryptondb.expected_ssim"] in (b"unknown", b"1.0000")
    assert metadata[b"kryptondb.promise"].startswith(b"WITH TIME <= 600 SECONDS (")
    told = db.sql("EXPLAIN ANALYZE " + QUERY + ROUNDS, [PICTURES[0]]).message
    assert "Anytime" in told and "quality     approximate (asked: TIME <= 600 SECONDS;" in told
    assert "step 8, then all others by" in told


def test_a_network_that_cannot_be_traced_is_answered_in_time(db, short):
    class Branching(type(small_network())):
        def forward(self, images):
            return super().forward(images if float(images.sum()) < 1e9 else images * 2)

    db.register("opaque", Branching(*small_network()).eval(), size=32)
    result = db.sql(CELLS.replace("net", "opaque") + "WITH TIME <= 5 SECONDS", [PICTURES[0]])
    assert result.plan.occlude.operator.accurate.name == "full"
    computed = result.df()["exact"]
    assert 0 < computed.sum() < len(computed) == 225


def test_ctrl_c_stops_it_and_the_session_goes_on(db, monkeypatch):
    run, calls = Incremental.run, []

    def interrupted(self, context):
        for scores in run(self, context):
            calls.append(len(scores.rows))
            if len(calls) == 5:
                raise KeyboardInterrupt
            yield scores

    with monkeypatch.context() as patch:
        patch.setattr(Incremental, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            db.sql(QUERY + ROUNDS, [PICTURES]).arrow()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kryptondb")]
    assert np.isfinite(db.sql(QUERY + ROUNDS, [PICTURES]).heatmaps()).all()
