"""EXPLAIN: a story in 100 columns, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from kryptondb.optimizer import explain, from_json, to_json
from kryptondb.optimizer.cost import Phase
from kryptondb.optimizer.physical import Quality
from tests.optimizer.conftest import Database

QUERY = "SELECT HEATMAP FROM occlude(chest, 'scan.png', class => 'nodule')"
LONG = (
    "SELECT label, max(drop) - min(drop) AS range, avg(abs(drop)), count(DISTINCT y) FROM occlude(chest, 'a/**/*.png', "
    "class => ALL) WHERE (y < 20 OR (x > 30 AND drop > 0.05 AND score > 0.25 AND base > 0.125)) AND label LIKE '%n%' "
    "AND (drop > 0.1 OR score < 0.5 OR image LIKE '%a very long name that goes on and on and on and on%') "
    "GROUP BY label ORDER BY range DESC LIMIT 10 WITH SSIM >= 0.9 CONFIDENCE 0.95"
)


@dataclass
class Counted:
    seconds: float = 0.25
    flops: float = 20e9
    positions: int = 117
    images: int = 1
    failed: int = 0
    peak_memory: int | None = 512_000_000
    query_memory: int | None = 97_000_000
    rows: int = 1
    phases: Mapping[str, float] = field(default_factory=dict)


def test_the_story_of_a_plan(database: Database) -> None:
    assert database.explain(QUERY + " WITH SSIM >= 0.9").split("\n") == [
        "HeatMaps",
        "└─ Incremental  float32, tiles 7 x 7, R 7.9 of 9.1 ideal                    0.11 s  17 GFLOP  100 MB",
        "   └─ Images  scan.png",
        "",
        "experiment  patch 16 x 16, stride 4 x 4, fill gray, class 2 of 4, probability",
        "positions   all 117 on a grid of 13 x 9",
        "model       Chest, 1 x 64 x 48, float32 on cpu, memory limit 4.0 GB",
        "dense tail  from flatten on: it mixes all locations",
        "quality     exact (asked: SSIM >= 0.9; no profile: the exact plan keeps SSIM >= 0.9)",
        "reason      incremental is the cheapest exact operator with the best of its 2 settings; full takes",
        "            10.5 times as long (1.2 s)",
        "rejected    Incremental  float32, tiles 1 x 1, R 7.9 of 9.1 ideal  0.78 s  100 MB  7.0 x the time",
        "            Full         float32, batches of 16                     1.2 s  320 MB  10.5 x the time",
    ]


def test_measurements_stand_beside_estimates(database: Database) -> None:
    text = database.explain(QUERY, analyzed=Counted(failed=2))
    assert text.split("\n\n")[1].split("\n") == [
        "            estimated   measured",
        "seconds        0.11 s     0.25 s   2.2x the estimate",
        "operations   17 GFLOP   20 GFLOP   1.2x the estimate",
        "positions         117        117",
        "images              1          1   2 skipped",
        "memory         100 MB      97 MB   0.97x the estimate",
        "process                   512 MB   weights and libraries included",
        "rows                           1",
    ]


def test_what_phases_were_estimated_to_take_stands_beside_what_they_took(database: Database) -> None:
    plan = database.plan(QUERY)
    occlude = plan.occlude
    assert occlude is not None and occlude.cost is not None
    cost = replace(occlude.cost, phases=(Phase("base", 0.01), Phase("first", 0.1), Phase("chosen", 0.0)))
    approximate = Quality("approximate", None, "USING asks for it")
    plan = replace(plan, root=replace(plan.root, input=replace(occlude, cost=cost)), quality=approximate)
    counted = Counted(images=2, positions=100, phases={"base": 0.02, "first": 0.3, "reconstruction": 0.004})
    assert explain(plan, analyzed=counted).split("\n\n")[1].split("\n")[:8] == [
        "                  estimated   measured",
        "seconds              0.22 s     0.25 s   1.1x the estimate",
        "  base                20 ms      20 ms   1.0x the estimate",
        "  first              0.20 s     0.30 s   1.5x the estimate",
        "  chosen               0 ms",
        "  reconstruction                  4 ms",
        "operations         33 GFLOP   20 GFLOP   0.60x the estimate",
        "positions               234        100   134 reconstructed",
    ]
    assert from_json(to_json(plan), database.operators) == plan


def test_of_many_rejected_each_operator_is_shown(database: Database) -> None:
    plan = database.plan(QUERY)
    many, last = [replace(plan.rejected[0], reason=f"reason {number}") for number in range(12)], plan.rejected[-1]
    lines = explain(replace(plan, rejected=(*many, last))).split("\n")
    assert [line.split()[-1] for line in lines if " reason " in line] == ["0", "1", "2", "3", "4", "5", "6"]
    assert lines[-2].split()[0] == "Full" and lines[-1].strip() == "and 5 more"


@pytest.mark.parametrize(
    "query",
    [QUERY, LONG, "SELECT * FROM redundancy(chest) WHERE ratio > 1", "SELECT PREDICTION FROM occlude(opaque, 'a.png')"],
)
def test_no_line_is_wider_than_the_terminal_and_none_has_trailing_space(database: Database, query: str) -> None:
    for analyzed in (None, Counted()):
        for line in database.explain(query, analyzed=analyzed).split("\n"):
            assert len(line) <= 100
            assert line == line.rstrip()


def test_json_tells_the_same_and_holds_the_plan(database: Database) -> None:
    story = json.loads(database.explain_json(LONG, analyzed=Counted()))
    assert story["operator"]["name"] == "incremental"
    assert (story["grid"]["rows"], story["grid"]["cols"]) == (13, 9)
    assert story["measured"]["peak_memory"] == 512_000_000
    assert story["measured"]["query_memory"] == 97_000_000
    assert [loser["operator"] for loser in story["rejected"]] == ["incremental", "full"]
    assert from_json(json.dumps(story["plan"]), database.operators) == database.plan(LONG)
    assert "measured" not in json.loads(database.explain_json(QUERY))
