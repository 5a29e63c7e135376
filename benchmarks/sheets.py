"""What `benchmarks.exact` measured, as tables: a case's contenders, what the planner expected, and a row per case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import Sheet

Result = Mapping[str, Any]  # of one case, plain data


def contenders_sheet(result: Result) -> Sheet:
    """How fast everyone was, and how far from the others."""
    rows = result["contenders"]
    first = rows[0]["contender"]
    ceiling = result["ceiling"]
    title = (
        f"{result['model']}, input {result['size']}, patch {result['patch']}, stride {result['stride']}, "
        f"grid {result['grid'][0]} x {result['grid'][1]}, {result['rounds']} rounds, {result['calibration']}. "
        f"Probability {result['base_probability']:.3f}, largest change {result['largest_drop']:.3f}. "
        f"Redundancy ratio of the bands measured {result['redundancy_measured']:.2f}, "
        f"of the grid {result['redundancy_grid']:.2f}. The ceiling of direct convolution is the higher of "
        f"convolution, {ceiling['convolution'] / 1e9:.0f} GFLOP/s, and matrix product, {ceiling['product'] / 1e9:.0f}."
    )
    columns = (
        "<contender",
        "positions",
        "seconds",
        "positions/s",
        f"x {first}",
        "median round",
        "GFLOP/s",
        "of the ceiling",
        f"from {first}",
        "from any",
        "from float64",
    )
    return Sheet(title, columns, [_contender(row, first) for row in rows])


def _contender(row: Mapping[str, Any], first: str) -> list[str]:
    known = [difference for difference in row["differences"].values() if difference is not None]
    return [
        row["contender"],
        f"{row['positions']:,}",
        f"{row['seconds']:.2f}",
        f"{row['positions_per_second']:.2f}",
        f"{row['ratio']:.2f}",
        f"{row['median_ratio']:.2f}",
        f"{row['operations_per_second'] / 1e9:.0f}",
        _percent(row["share"]),
        _small(row["differences"].get(first)),
        _small(max(known, default=None)),
        _small(row["error"]),
    ]


def planner_sheet(result: Result) -> Sheet:
    """For a map of the whole grid: the seconds expected, and those that the speed measured gives."""
    rows = [
        [
            row["operator"] + (" (chosen)" if row["chosen"] else ""),
            row["settings"],
            f"{row['estimated_seconds']:.1f}",
            f"{row['measured_seconds']:.1f}",
            f"{row['estimated_seconds'] / row['measured_seconds']:.2f}",
            f"{row['preparing_seconds']:.2f}",
        ]
        for row in result["planner"]
    ]
    columns = ("<a whole map", "<settings", "estimated s", "measured s", "ratio", "prepare s")
    choice = result["choice"]
    title = f"The planner's choice, {choice['operator']}, takes {choice['over_fastest']:.2f} of the faster one's time."
    return Sheet(title, columns, rows)


def summary_sheet(results: Sequence[Result]) -> Sheet:
    """A row per case; a column for every contender that any of them had."""
    names = list(dict.fromkeys(row["contender"] for result in results for row in result["contenders"]))
    first = names[0]
    columns = (
        "<model",
        "patch",
        "stride",
        *names,
        f"x {first}",
        "x full",
        "of ceiling",
        "R",
        "<chosen",
        "<within 10%",
        "difference",
    )
    good = sum(result["choice"]["within_10_percent"] for result in results)
    title = (
        f"All cases: positions per second, how many times as fast as {first} and as full incremental is, and its share "
        "of the ceiling of direct convolution, which Winograd's method can exceed. The "
        f"planner's choice is within 10% of the faster of full and incremental in {good} of {len(results)} cases."
    )
    return Sheet(title, columns, [_case(result, names) for result in results])


def _case(result: Result, names: Sequence[str]) -> list[str]:
    rows = {row["contender"]: row for row in result["contenders"]}
    ours = rows.get("incremental")
    known = [d for row in rows.values() for d in row["differences"].values() if d is not None]
    full = rows["full"]["positions_per_second"]
    return [
        result["model"],
        str(result["patch"]),
        str(result["stride"]),
        *(_rate(rows[name]["positions_per_second"]) if name in rows else "-" for name in names),
        f"{ours['ratio']:.2f}" if ours else "-",
        f"{ours['positions_per_second'] / full:.2f}" if ours else "-",
        _percent(ours["share"]) if ours else "-",
        f"{result['redundancy_grid']:.2f}",
        result["choice"]["operator"],
        "yes" if result["choice"]["within_10_percent"] else f"no, {result['choice']['over_fastest']:.2f}",
        _small(max(known, default=None)),
    ]


def _rate(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.1f}" if rate >= 10 else f"{rate:.2f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _small(number: float | None) -> str:
    return "-" if number is None else f"{number:.1e}"
