import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.functional import Centroids, centroids_from_sums, class_pool

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def test_known_values():
    sums = torch.tensor([[6.0, -3.0], [5.0, 5.0], [1.0, 0.0]], device=DEVICE)
    found = centroids_from_sums(sums, torch.tensor([3.0, 0.0, 0.5], device=DEVICE))
    assert found.values.tolist() == [[2, -1], [0, 0], [2, 0]]
    assert found.mass.tolist() == [3, 0, 0.5]
    assert found.present.tolist() == [True, False, True]


@given(st.integers(0, 2**31 - 1), st.booleans())
def test_of_pooled_features_are_their_weighted_means(seed, weighted):
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(3, 4, 5, 7, generator=rng, dtype=torch.float64).to(DEVICE)
    labels = torch.randint(-1, 9, (3, 5, 7), generator=rng).to(DEVICE)
    weights = torch.rand(3, 5, 7, generator=rng, dtype=torch.float64).to(DEVICE) if weighted else None
    sums, mass = class_pool(features, labels, 8, weights=weights)
    found = centroids_from_sums(sums.sum(0), mass.sum(0))
    share = torch.ones_like(features[:, 0]) if weights is None else weights
    for k in range(8):
        own = labels == k
        if own.any():
            rows, counts = features.movedim(1, -1)[own], share[own]
            torch.testing.assert_close(found.values[k], (rows * counts[:, None]).sum(0) / counts.sum())
        else:
            assert not found.values[k].any()
            assert not found.present[k]


def test_gradients_reach_sums_and_mass_but_not_through_the_mass_that_is_returned():
    sums = torch.randn(4, 3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    mass = torch.tensor([2.0, 0.5, 0.0, 7.0], dtype=torch.float64, device=DEVICE, requires_grad=True)
    found = centroids_from_sums(sums, mass)
    assert not found.mass.requires_grad
    up = torch.randn_like(sums)
    to_sums, to_mass = torch.autograd.grad(found.values, (sums, mass), up)
    present = mass.detach() > 0
    divided = mass.detach().where(present, 1)
    torch.testing.assert_close(to_sums, up / divided[:, None] * present[:, None])
    torch.testing.assert_close(to_mass, -(up * sums.detach()).sum(1) / divided**2 * present)
    kept = [0, 1, 3]
    assert gradcheck(lambda s, m: centroids_from_sums(s, m).values, (sums[kept], mass[kept]))


@pytest.mark.parametrize("junk", [0.0, float("nan"), float("inf")])
def test_absent_classes_are_rows_of_zero_that_stay_connected(junk):
    sums = torch.full((2, 3), junk, device=DEVICE, requires_grad=True)
    mass = torch.zeros(2, device=DEVICE, requires_grad=True)
    values = centroids_from_sums(sums, mass).values
    assert torch.equal(values, torch.zeros(2, 3, device=DEVICE))
    for grad in torch.autograd.grad(values, (sums, mass), torch.randn_like(values), materialize_grads=True):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_detach_cuts_both_fields():
    leaf = torch.ones(2, device=DEVICE, requires_grad=True)
    found = Centroids(leaf[:, None] * 2, leaf * 3)
    assert found.values.requires_grad
    assert found.mass.requires_grad
    cut = found.detach()
    assert not cut.values.requires_grad
    assert not cut.mass.requires_grad
    assert torch.equal(cut.values, found.values)
    assert torch.equal(cut.mass, found.mass)


def test_compiles_without_a_graph_break():
    compiled = torch.compile(centroids_from_sums, fullgraph=True, backend="aot_eager")
    sums, mass = torch.randn(3, 4, device=DEVICE), torch.tensor([1.0, 0.0, 2.0], device=DEVICE)
    for one, two in zip(compiled(sums, mass), centroids_from_sums(sums, mass), strict=True):
        assert torch.equal(one, two)
