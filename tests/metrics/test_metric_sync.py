"""What several ranks count is held against one process in tests/benchmarks/test_ranks.py."""

import torch

from dastc.metrics import MeanIoU, TemporalConsistency


def _data(rank):
    rng = torch.Generator().manual_seed(rank)
    return torch.randint(0, 4, (2 + rank, 3, 5, 7), generator=rng), torch.randint(0, 4, (2, 5, 7), generator=rng)


def _fill(miou, steady, rank):
    clips, labels = _data(rank)
    miou.update(clips[:2, 0], labels)
    steady.update(clips)


def test_without_a_process_group_nothing_happens():
    miou, steady = MeanIoU(4), TemporalConsistency()
    _fill(miou, steady, 0)
    before = miou.confusion.clone(), steady.counts.clone()
    miou.sync()
    steady.sync()
    assert torch.equal(miou.confusion, before[0])
    assert torch.equal(steady.counts, before[1])
