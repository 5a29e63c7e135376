"""CALIBRATE: how fast this machine computes, measured when it is first needed, and remembered in the database."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from kryptondb.catalog import Catalog, LayerRecord
from kryptondb.errors import CatalogError, ModelError, at
from kryptondb.optimizer.cost import LayerRate, LayerShape, Rates, layer_shapes
from kryptondb.result import Result
from kryptondb.show.values import table_of
from kryptondb.text.units import counted, seconds_text

if TYPE_CHECKING:
    import pyarrow as pa

    from kryptondb.catalog import ModelStore
    from kryptondb.grammar.statements import Calibrate, Column
    from kryptondb.network import Network
    from kryptondb.statements.database import Database


class Calibration:
    """The rates of this machine's devices, kept in a catalog.

    A device is identified by its name, by the number of threads where it is the processor, and by the machine.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._known: dict[str, Rates] = {}

    def rates(self, device: str) -> Rates:
        """How fast a torch device is with torch's current number of threads; measured where it was not yet."""
        key = device_key(device)
        if key not in self._known:
            general = self._catalog.rates(key)
            if general is None or "reduced" not in general:  # which older versions did not measure
                general = _general(device)
                with suppress(CatalogError):  # a catalog that cannot be written: the next session measures again
                    self._catalog.put_rates(key, general)
            general.pop("measured", None)
            general["reduced"] = tuple((name, rate) for name, rate in general.get("reduced", ()))
            layers = tuple(_layer_rate(record) for record in self._catalog.layer_rates(key))
            self._known[key] = Rates(**general, layers=layers)
        return self._known[key]

    def measure(
        self,
        device: str,
        shapes: Iterable[LayerShape],
        *,
        in_general: bool,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Measures the shapes of layers again, and with `in_general` also the device's rates for any layer.

        Each rate is remembered at once, so that what was measured before an interruption stays.
        """
        from kryptondb.executor.calibrate import measure_layers

        key = device_key(device)
        self._catalog.forget_damaged_rates()
        if in_general:
            self._known.pop(key, None)
            self._catalog.put_rates(key, _general(device))
        general = self.rates(device)
        faster = [name for name, rate in general.reduced if rate > general.flops_per_second]
        self._known.pop(key, None)  # the next call of rates() reads what is measured now
        for rate in measure_layers(shapes, device, progress, faster):
            shape = dataclasses.asdict(rate.shape)
            self._catalog.put_layer_rate(key, LayerRecord(shape, rate.algorithm, rate.flops_per_second, _now()))

    def table(self) -> pa.Table:
        """SHOW CALIBRATION: the rates of this machine, those that hold for any layer first."""
        import pyarrow as pa

        names = ("device", "layer", "algorithm", "rate", "unit", "measured")
        rows: list[tuple[Any, ...]] = []
        for key in self._catalog.devices():
            device = key.removesuffix(machine_suffix())
            if device != key:
                rows += ((device, *row) for row in (*self._general_rows(key), *self._layer_rows(key)))
        return table_of(names, rows, {"rate": pa.float64()})

    def _general_rows(self, key: str) -> list[tuple[Any, ...]]:
        general = self._catalog.rates(key)
        if general is None:
            return []
        measured = general.get("measured")
        return [
            ("generic convolution", "direct", general["flops_per_second"] / 1e9, "GFLOP/s", measured),
            *(
                (f"generic convolution, {precision}", "direct", rate / 1e9, "GFLOP/s", measured)
                for precision, rate in general.get("reduced", ())
            ),
            ("copy", None, general["bytes_per_second"] / 1e9, "GB/s", measured),
            ("gathering in the caches", None, general.get("cached_bytes_per_second", 0.0) / 1e9, "GB/s", measured),
            ("operator call", None, general["seconds_per_call"] * 1e6, "microseconds", measured),
            ("gather call", None, general.get("seconds_per_gather", 0.0) * 1e6, "microseconds", measured),
        ]

    def _layer_rows(self, key: str) -> list[tuple[Any, ...]]:
        records = self._catalog.layer_rates(key)
        rated = sorted(
            ((_layer_rate(record), record.measured) for record in records),
            key=lambda pair: (dataclasses.astuple(pair[0].shape), pair[0].algorithm),
        )
        return [
            (str(rate.shape), rate.algorithm, rate.flops_per_second / 1e9, "GFLOP/s", measured)
            for rate, measured in rated
        ]


def calibrate(database: Database, statement: Calibrate, _: Mapping[str, object]) -> Result:
    """CALIBRATE: measures the layers of the models named, or of all models together with the device itself."""
    database.catalog.check_writable()
    device = database.settings.resolved_device()
    with database.threads(), database.waiting("calibrating") as say:
        networks, skipped = _networks(database.models, statement.models)
        shapes = dict.fromkeys(shape for network in networks for shape in layer_shapes(network))
        began = time.perf_counter()
        database.calibration.measure(
            device,
            shapes,
            in_general=not statement.models,
            progress=lambda done, total: say(f"calibrating, {done} of {counted(total, 'layer shape')}"),
        )
        name = device_name(device)
    what = f"{counted(len(shapes), 'layer shape')} of {counted(len(networks), 'model')}"
    message = f"{name}: {what} measured in {seconds_text(time.perf_counter() - began)}"
    return Result(message=f"{message}; skipped: {', '.join(skipped)}" if skipped else message)


def _networks(models: ModelStore, named: Sequence[Column]) -> tuple[list[Network], list[str]]:
    """The networks of the models named, each once, or of all models; of all, also those that cannot be built."""
    if named:
        networks: dict[str, Network] = {}
        for model in named:
            with at(model.position):
                networks[model.name.casefold()] = models.network(model.name)
        return list(networks.values()), []
    built, skipped = [], []
    for name in models.names():
        try:
            built.append(models.network(name))
        except ModelError as error:
            skipped.append(f"{name} ({error.message})")
    return built, skipped


def device_name(device: str) -> str:
    """`cpu, 2 threads`, or `cuda` and the card's own name."""
    import torch

    if device == "cpu":
        return f"cpu, {counted(torch.get_num_threads(), 'thread')}"
    return f"{device}, {torch.cuda.get_device_name(device)}"


def device_key(device: str) -> str:
    """The key of a device's measurements: its name and the machine's."""
    return device_name(device) + machine_suffix()


def machine_suffix() -> str:
    """The ending of the keys of this machine's devices."""
    return f", {platform.node()}"


def _general(device: str) -> dict[str, Any]:
    """The rates that hold for any layer, measured now, as the catalog keeps them."""
    from kryptondb.executor.calibrate import measure

    general = dataclasses.asdict(measure(device))
    del general["layers"]
    return {**general, "measured": _now()}


def _layer_rate(record: LayerRecord) -> LayerRate:
    shape: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.layer.items()}
    return LayerRate(LayerShape(**shape), record.algorithm, record.flops_per_second)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
