import importlib
import json
import sys
from pathlib import Path

import pytest
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # where processes that are spawned find it, too
ranks = importlib.import_module("ranks")
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "ranks" / "ranks.json"
HARDEST = "a class on one rank only", "one rank wholly ignored"


@pytest.mark.skipif(not dist.is_gloo_available(), reason="processes talk through gloo")
def test_each_block_on_two_ranks_is_that_of_one_process():
    rows = ranks.differences(2, HARDEST, recipes=())
    assert [row for row in rows if not row["difference"] <= ranks.LIMIT] == []
    assert {(row["block"], row["batches"]) for row in rows} == {
        (block, batches) for block in ranks.BLOCKS for batches in ("equal", "unequal")
    }
    assert all(row["largest_value"] > 1e-3 for row in rows)  # there is something to differ in


def test_the_committed_table_is_complete_and_within_the_limit():
    found = json.loads(RESULTS.read_text())
    rows = [(row["ranks"], row["block"], row["batches"], row["pattern"]) for row in found["rows"]]
    wanted = [(world, *case) for world in (2, 4) for case in ranks.cases(ranks.PATTERNS, ranks.RECIPES)]
    assert rows == wanted
    assert len(ranks.PATTERNS) == 8
    assert all(row["difference"] <= 1e-10 for row in found["rows"])
    page = (RESULTS.parents[3] / "docs" / "recipes.md").read_text()
    assert ranks.table(found["rows"]) in page


def test_parts_that_do_not_sum_over_ranks_are_seen():
    parts = ranks.BATCHES["unequal", 2]
    given = ranks.batch_of("a class on one rank only", parts)
    halves = [{name: x[part] for name, x in given.items()} for part in (slice(0, 1), slice(1, 4))]
    for name, block in ranks.BLOCKS.items():
        whole, own = ranks.found_by(block, given), [ranks.found_by(block, half) for half in halves]
        gaps = [
            (x - y).abs().max()
            for mean, same in own
            for x, y in zip([*mean[1:], *same], [*whole[0][1:], *whole[1]], strict=True)
        ]
        assert max(gaps) > 1e-3, name
