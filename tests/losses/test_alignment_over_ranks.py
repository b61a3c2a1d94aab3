import warnings

import torch
import torch.distributed as dist

from dastc._core.distributed import sum_over_ranks
from dastc.aggregation import CategoryAggregator
from dastc.losses import CategoryAlignmentLoss

K, RANKS = 4, 2


def _data(rank):
    """Each rank has a batch of its own; class 3 is on rank 1 only, class 2 of the target on rank 0 only."""
    rng = torch.Generator().manual_seed(rank)
    clip = (2, 2, 5, 3, 2)
    features = [torch.randn(clip, generator=rng, dtype=torch.float64) for _ in range(2)]
    source = torch.randint(0, 3 + rank, (2, 2, 6, 4), generator=rng)
    target = torch.randint(0, 3 - rank, (2, 2, 6, 4), generator=rng)
    weights = torch.rand(source.shape, generator=rng, dtype=torch.float64)
    logits = torch.randn(2, 2, K, 3, 2, generator=rng, dtype=torch.float64)
    flow = torch.randn(2, 1, 2, 3, 2, generator=rng, dtype=torch.float64)
    return [*features, source, target, weights, logits, flow]


def _run(data, sync):
    source_features, target_features, source, target, weights, logits, flow = data
    source_features, target_features = (x.clone().requires_grad_() for x in (source_features, target_features))
    aggregator = CategoryAggregator(K, sync=sync, agreement=False, min_mass=1.0)
    centroids = aggregator(source_features, source, weights=weights, logits=logits, flow=flow)
    upstream = torch.linspace(-1, 2, K * 5, dtype=torch.float64).view(K, 5)
    (of_aggregator,) = torch.autograd.grad((centroids.values * upstream).sum(), source_features)
    loss = CategoryAlignmentLoss(K, sync=sync)
    value = loss(source_features, source, target_features, target, source_weights=weights)
    of_loss = torch.autograd.grad(value, (source_features, target_features))
    return [centroids.values.detach(), centroids.mass, value.detach()], [of_aggregator, *of_loss]


def _rank(rank, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    x = torch.full((2,), rank + 1.0, requires_grad=True)
    total = sum_over_ranks(x)
    total.backward(torch.tensor([1.0, 10.0]) * (rank + 1))
    sums = x.detach(), total.detach(), x.grad
    torch.save((_run(_data(rank), True), _run(_data(rank), False), sums), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path):
    torch.multiprocessing.spawn(_rank, (str(tmp_path),), nprocs=RANKS)
    batches = [_data(rank) for rank in range(RANKS)]
    values, gradients = _run([torch.cat(parts) for parts in zip(*batches, strict=True)], True)
    for rank in range(RANKS):
        (found, to_features), alone, (x, total, grad) = torch.load(tmp_path / f"{rank}.pt")
        assert x.tolist() == [rank + 1, rank + 1]
        assert total.tolist() == [3, 3]
        assert grad.tolist() == [3, 30]
        for mine, whole in zip(found, values, strict=True):
            torch.testing.assert_close(mine, whole)
        for mine, whole in zip(to_features, gradients, strict=True):
            # DistributedDataParallel averages over the ranks what reaches the parameters
            torch.testing.assert_close(mine / RANKS, whole[2 * rank : 2 * rank + 2])
        # sync=False looks at the own batch only
        for mine, own, whole in zip(alone[0], _run(batches[rank], False)[0], values, strict=True):
            torch.testing.assert_close(mine, own)
            assert not torch.allclose(mine, whole)


def test_without_a_process_group_it_is_the_tensor_itself():
    x = torch.randn(3)
    assert sum_over_ranks(x) is x
