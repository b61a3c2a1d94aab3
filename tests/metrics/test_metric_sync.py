import torch
import torch.distributed as dist

from dastc.metrics import MeanIoU, TemporalConsistency


def _data(rank):
    rng = torch.Generator().manual_seed(rank)
    return torch.randint(0, 4, (2 + rank, 3, 5, 7), generator=rng), torch.randint(0, 4, (2, 5, 7), generator=rng)


def _fill(miou, steady, rank):
    clips, labels = _data(rank)
    miou.update(clips[:2, 0], labels)
    steady.update(clips)


def _rank(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    miou, steady = MeanIoU(4), TemporalConsistency()
    _fill(miou, steady, rank)
    miou.sync()
    steady.sync()
    torch.save((miou.confusion, steady.counts), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=2)
    miou, steady = MeanIoU(4), TemporalConsistency()
    for rank in range(2):
        _fill(miou, steady, rank)
    for rank in range(2):
        confusion, counts = torch.load(tmp_path / f"{rank}.pt")
        assert torch.equal(confusion, miou.confusion)
        assert torch.equal(counts, steady.counts)


def test_without_a_process_group_nothing_happens():
    miou, steady = MeanIoU(4), TemporalConsistency()
    _fill(miou, steady, 0)
    before = miou.confusion.clone(), steady.counts.clone()
    miou.sync()
    steady.sync()
    assert torch.equal(miou.confusion, before[0])
    assert torch.equal(steady.counts, before[1])
