"""CALIBRATE and SHOW CALIBRATION: what this machine is measured to do, what is remembered of it, and who is told."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kryptondb
from kryptondb.executor import calibrate
from kryptondb.optimizer.cost import LayerRate, LayerShape, Rates
from tests.networks import export, small_network

FIRST, SECOND, WIDE = LayerShape(3, 4), LayerShape(4, 8), LayerShape(3, 5)
COLUMNS = ["device", "layer", "algorithm", "rate", "unit", "measured"]


class Machine:
    """Measures nothing: every layer is computed at `speed`, and each is written down."""

    def __init__(self) -> None:
        self.speed = 1e9
        self.measured: list[LayerShape] = []
        self.in_general = 0
        self.half = 0.0  # how many times as fast bfloat16 is; 0: there is none
        self.stop_after: int | None = None

    def measure(self, device: str) -> Rates:
        self.in_general += 1
        reduced = (("bfloat16", self.half * self.speed),) if self.half else ()
        return Rates(self.speed, 2e9, seconds_per_call=3e-6, reduced=reduced)

    def measure_layers(
        self,
        shapes: Iterable[LayerShape],
        device: str,
        progress: Callable[[int, int], None] | None = None,
        reduced: Sequence[str] = (),
    ) -> Iterator[LayerRate]:
        for shape in shapes:
            if len(self.measured) == self.stop_after:
                raise KeyboardInterrupt
            self.measured.append(shape)
            yield LayerRate(shape, "direct", self.speed)
            for precision in reduced:
                yield LayerRate(shape, f"direct {precision}", 3 * self.speed)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(calibrate, "measure", machine.measure)
    monkeypatch.setattr(calibrate, "measure_layers", machine.measure_layers)
    return machine


@pytest.fixture
def db(machine: Machine) -> Iterator[kryptondb.Session]:
    """A session with the networks `net` and `wide`, which have their second layer in common but not their first."""
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32)
        session.register("wide", small_network(width=5), size=32)
        session.sql("SET threads = 1")
        yield session


def rows(session: kryptondb.Session) -> list[dict[str, Any]]:
    return session.sql("SHOW CALIBRATION").arrow().to_pylist()


def layers(session: kryptondb.Session) -> list[str]:
    return [row["layer"] for row in rows(session)]


def test_every_model_is_calibrated_and_the_device_in_general(db, machine):
    result = db.sql("CALIBRATE")
    assert (result.message or "").startswith("cpu, 1 thread: 4 layer shapes of 2 models measured in ")
    assert machine.measured == [FIRST, SECOND, WIDE, LayerShape(5, 8)]
    assert machine.in_general == 1


def test_only_the_models_named_are_calibrated(db, machine):
    result = db.sql("calibrate net, Net;")
    assert "2 layer shapes of 1 model measured" in (result.message or "")
    assert machine.measured == [FIRST, SECOND]
    assert machine.in_general == 1  # nothing was known of the device yet
    db.sql("CALIBRATE net")
    assert machine.in_general == 1


def test_a_shape_that_two_models_share_is_measured_once(db, machine):
    db.register("again", small_network(), size=32)
    db.sql("CALIBRATE net, again")
    assert machine.measured == [FIRST, SECOND]


def test_what_was_measured_is_shown_with_its_unit(db):
    assert db.sql("SHOW CALIBRATION").arrow().column_names == COLUMNS
    db.sql("CALIBRATE; CALIBRATE net")
    shown = [tuple(row[name] for name in COLUMNS[:-1]) for row in rows(db)]
    assert shown[:6] == [
        ("cpu, 1 thread", "generic convolution", "direct", 1.0, "GFLOP/s"),
        ("cpu, 1 thread", "copy", None, 2.0, "GB/s"),
        ("cpu, 1 thread", "gathering in the caches", None, 30.0, "GB/s"),
        ("cpu, 1 thread", "operator call", None, pytest.approx(3.0), "microseconds"),
        ("cpu, 1 thread", "gather call", None, pytest.approx(60.0), "microseconds"),
        ("cpu, 1 thread", "3 x 3, 3 -> 4", "direct", 1.0, "GFLOP/s"),
    ]
    assert len(shown) == 5 + 4
    assert all(row["measured"].endswith("+00:00") for row in rows(db))


def test_the_newest_knowledge_counts(db, machine):
    db.sql("CALIBRATE net")
    with db.database.threads():
        assert db.rates("cpu").layer(FIRST, "direct") == 1e9
    machine.speed = 5e9
    db.sql("CALIBRATE net")
    with db.database.threads():
        assert db.rates("cpu").layer(FIRST, "direct") == 5e9
        assert db.rates("cpu").layer(WIDE, "direct") is None
    assert [row["rate"] for row in rows(db) if row["layer"] == str(FIRST)] == [5.0]


def test_a_file_remembers_its_calibration_by_machine_and_threads(machine, tmp_path, monkeypatch):
    path = tmp_path / "a.krypton"
    with kryptondb.connect(path) as session:
        session.register("net", small_network(), size=32)
        session.sql("SET threads = 1; CALIBRATE net")
    with kryptondb.connect(path) as session:
        with session.database.threads():
            assert session.rates("cpu").layer(SECOND, "direct") == 1e9
        session.sql("SET threads = 2")
        with session.database.threads():
            assert session.rates("cpu").layer(SECOND, "direct") is None
    monkeypatch.setattr(platform, "node", lambda: "elsewhere")
    with kryptondb.connect(path) as session:
        assert rows(session) == []


def test_the_threads_that_are_set_are_those_that_compute(db, monkeypatch):
    used: list[int] = []

    def measure_layers(*_: object) -> Iterator[LayerRate]:
        used.append(torch.get_num_threads())
        return iter(())

    monkeypatch.setattr(calibrate, "measure_layers", measure_layers)
    db.sql("SET threads = 3; CALIBRATE net")
    assert used == [3]


def test_what_was_measured_before_an_interruption_is_kept(db, machine):
    machine.stop_after = 1
    with pytest.raises(KeyboardInterrupt):
        db.sql("CALIBRATE net")
    assert layers(db)[5:] == [str(FIRST)]
    with db.database.threads():
        assert db.rates("cpu").layer(FIRST, "direct") == 1e9


def test_an_unknown_model_is_an_error_in_its_place_before_anything_is_measured(db, machine):
    with pytest.raises(kryptondb.BindError) as caught:
        db.sql("SHOW MODELS;\nCALIBRATE wide, nte")
    assert (caught.value.line, caught.value.column) == (2, 17)
    assert '^^^\nDid you mean "net"?' in str(caught.value)
    assert machine.measured == []


def test_of_all_models_one_that_cannot_be_built_is_left_out(db, machine, tmp_path: Path):
    export(small_network(), tmp_path / "gone.pt2")
    db.sql(f"CREATE MODEL gone FROM '{tmp_path / 'gone.pt2'}' WITH (size => 32)")
    (tmp_path / "gone.pt2").unlink()
    db.database.models._built.clear()
    message = db.sql("CALIBRATE").message or ""
    assert "of 2 models measured" in message and "skipped: gone (" in message and "\n" not in message
    with pytest.raises(kryptondb.ModelError):
        db.sql("CALIBRATE gone")


def test_a_model_without_convolutions_has_nothing_to_measure(db, machine):
    db.register("flat", nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2)), size=32)
    assert "0 layer shapes of 1 model measured" in (db.sql("CALIBRATE flat").message or "")


def test_a_database_without_models_measures_the_device_in_general(machine):
    with kryptondb.connect() as session:
        session.sql("CALIBRATE")
        assert layers(session) == [
            *("generic convolution", "copy", "gathering in the caches", "operator call", "gather call"),
        ]


@pytest.mark.parametrize(("half", "measured"), [(2.0, True), (0.5, False)])
def test_layers_are_measured_in_bfloat16_where_the_device_is_faster_with_it(machine, half, measured):
    machine.half = half
    with kryptondb.connect() as session:
        session.register("net", small_network(), size=32)
        session.sql("CALIBRATE net")
        algorithms = {row["algorithm"] for row in rows(session)}
        assert ("direct bfloat16" in algorithms) is measured
        assert "generic convolution, bfloat16" in layers(session)
        shape = machine.measured[0]
        rates = session.rates("cpu")
        assert rates.in_precision("bfloat16").flops_per_second == half * rates.flops_per_second
        assert rates.in_precision("bfloat16").layer(shape, "direct") == (3 * machine.speed if measured else None)
        assert rates.layer(shape, "direct") == machine.speed
        assert rates.in_precision("float64") == rates


def test_rates_that_an_older_version_measured_have_no_date(machine):
    with kryptondb.connect() as session:
        session.rates("cpu")
        (key,) = session.database.catalog.devices()
        session.database.catalog.put_rates(
            key, {"flops_per_second": 7e9, "bytes_per_second": 1e9, "seconds_per_call": 1e-6}
        )
        assert rows(session)[0]["rate"] == 7.0 and rows(session)[0]["measured"] is None
