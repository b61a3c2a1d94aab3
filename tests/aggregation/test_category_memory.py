import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.aggregation import CategoryMemory
from dastc.functional import Centroids

SEEDS = st.integers(0, 2**31 - 1)


def _centroids(rng, k=4, d=3, dtype=torch.float32):
    mass = torch.randint(0, 3, (k,), generator=rng).to(dtype)
    return Centroids(torch.randn(k, d, generator=rng).to(dtype) * (mass > 0)[:, None], mass)


def test_by_hand():
    memory = CategoryMemory(2, 1, momentum=0.75)
    seen = memory(Centroids(torch.tensor([[4.0], [0.0]]), torch.tensor([9.0, 0.0])))
    assert seen.values.tolist() == [[4], [0]]  # the first sight is copied, not blended with 0
    assert seen.mass.tolist() == [1, 0]
    seen = memory(Centroids(torch.tensor([[8.0], [2.0]]), torch.tensor([0.1, 5.0])))
    assert seen.values.tolist() == [[5], [2]]
    assert seen.mass.tolist() == [1, 1]
    seen = memory(Centroids(torch.tensor([[0.0], [4.0]]), torch.tensor([0.0, 5.0])))
    assert seen.values.tolist() == [[5], [2.5]]  # an absent class keeps its own
    assert seen.mass.tolist() == [1, 1]


@given(SEEDS, st.floats(0, 1), st.integers(0, 5), st.sampled_from([None, 3]))
def test_it_is_a_running_mean_of_what_was_seen(seed, momentum, updates, dim):
    rng = torch.Generator().manual_seed(seed)
    memory, plain = CategoryMemory(4, dim, momentum=momentum), {}
    for _ in range(updates):
        centroids = _centroids(rng)
        seen = memory(centroids)
        for k in range(4):
            if centroids.mass[k] > 0:
                old = plain.get(k, centroids.values[k])
                plain[k] = momentum * old + (1 - momentum) * centroids.values[k]
        assert seen.mass.tolist() == [float(k in plain) for k in range(4)]
        for k in range(4):
            torch.testing.assert_close(seen.values[k], plain.get(k, torch.zeros(3)))


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, 3.0), (1.0, 1.0), (None, 0.9 * (0.9 + 0.2) + 0.3)])
def test_the_extremes_and_the_default(momentum, expected):
    memory = CategoryMemory(1, 1, **({} if momentum is None else {"momentum": momentum}))
    for value in (1.0, 2.0, 3.0):
        seen = memory(Centroids(torch.tensor([[value]]), torch.ones(1)))
    assert float(seen.values) == pytest.approx(expected)


def test_what_stands_in_the_row_of_an_absent_class_is_never_read():
    memory = CategoryMemory(2, 1)
    memory(Centroids(torch.ones(2, 1), torch.ones(2)))
    seen = memory(Centroids(torch.full((2, 1), float("nan")), torch.zeros(2)))
    assert seen.values.eq(1).all()


def test_it_passes_no_gradient_and_keeps_no_graph():
    memory = CategoryMemory(2, 2)
    values = torch.randn(2, 2, requires_grad=True)
    seen = memory(Centroids(values, torch.ones(2)))
    assert not seen.values.requires_grad
    assert not memory.values.requires_grad
    with torch.no_grad():
        values.fill_(7)
    assert not memory.values.eq(7).any()


def test_what_was_returned_does_not_change_later():
    memory = CategoryMemory(2, 2, momentum=0.5)
    first = memory(Centroids(torch.ones(2, 2), torch.tensor([1.0, 0.0])))
    memory(Centroids(torch.zeros(2, 2), torch.ones(2)))
    assert first.values.tolist() == [[1, 1], [0, 0]]
    assert first.mass.tolist() == [1, 0]


@pytest.mark.parametrize("dim", [None, 3])
def test_state_goes_into_a_fresh_memory(dim, tmp_path):
    rng = torch.Generator().manual_seed(0)
    memory = CategoryMemory(4, dim, momentum=0.5)
    for _ in range(3):
        memory(_centroids(rng))
    torch.save(memory.state_dict(), tmp_path / "memory.pt")
    other = CategoryMemory(4, dim, momentum=0.5)
    other.load_state_dict(torch.load(tmp_path / "memory.pt"))
    following = _centroids(rng)
    for mine, its in zip(memory(following), other(following), strict=True):
        assert torch.equal(mine, its)


def test_an_empty_state_empties_a_memory_without_a_width():
    memory = CategoryMemory(2)
    memory(Centroids(torch.ones(2, 3), torch.ones(2)))
    memory.load_state_dict(CategoryMemory(2).state_dict())
    seen = memory(Centroids(torch.full((2, 5), 4.0), torch.tensor([1.0, 0.0])))  # any width again
    assert torch.equal(seen.values, torch.tensor([[4.0], [0.0]]).expand(2, 5))


def test_a_fixed_width_refuses_another():
    memory = CategoryMemory(2)
    memory(Centroids(torch.ones(2, 3), torch.ones(2)))
    with pytest.raises(RuntimeError, match="size mismatch for values"):
        CategoryMemory(2, 5).load_state_dict(memory.state_dict())


@pytest.mark.parametrize("dim", [None, 3])
def test_half_precision_is_remembered_in_single(dim):
    memory = CategoryMemory(4, dim)
    seen = memory(_centroids(torch.Generator().manual_seed(0), dtype=torch.bfloat16))
    assert seen.values.dtype == seen.mass.dtype == torch.float32


@pytest.mark.parametrize("dim", [None, 3])
def test_to_moves_what_is_remembered(dim):
    rng = torch.Generator().manual_seed(0)
    memory = CategoryMemory(4, dim).to(torch.float64)
    seen = memory(_centroids(rng, dtype=torch.float64))
    assert seen.values.dtype == seen.mass.dtype == torch.float64


def test_extra_repr_shows_the_arguments():
    assert CategoryMemory(5, 2, momentum=0.5).extra_repr() == "num_classes=5, dim=2, momentum=0.5"
    assert CategoryMemory(5).extra_repr() == "num_classes=5, dim=None, momentum=0.9"


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((0,), {}, "`num_classes` must be at least 1; got 0."),
        ((2, 0), {}, "`dim` must be at least 1; got 0."),
        ((2,), {"momentum": 1.1}, "`momentum` must lie in [0, 1]; got 1.1."),
    ],
)
def test_arguments_out_of_range(args, kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape('CategoryMemory: ' + message)}$"):
        CategoryMemory(*args, **kwargs)


def test_centroids_that_do_not_fit():
    def fails(memory, values, mass, message):
        with pytest.raises(ValueError, match=f"^{re.escape('CategoryMemory: ' + message)}$"):
            memory(Centroids(torch.zeros(values), torch.zeros(mass)))

    fails(CategoryMemory(2), (3, 4), (3,), "`centroids.values` must have shape (K=2, D); got (3, 4).")
    fails(CategoryMemory(2, 5), (2, 4), (2,), "`centroids.values` must have shape (K=2, D=5); got (2, 4).")
    memory = CategoryMemory(2)
    fails(memory, (2, 4), (2, 1), "`centroids.mass` must have shape (K=2); got (2, 1).")
    memory(Centroids(torch.ones(2, 3), torch.ones(2)))  # what was refused has not fixed the width
    fails(memory, (2, 4), (2,), "`centroids.values` must have shape (K=2, D=3); got (2, 4).")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_remembered(value):
    memory = CategoryMemory(3, momentum=0.5)
    broken = Centroids(torch.tensor([[value, 1.0], [2.0, 2.0], [3.0, 3.0]]), torch.tensor([1.0, 1.0, 0.0]))
    seen = memory(broken)
    assert seen.values.tolist() == [[0, 0], [2, 2], [0, 0]]
    assert seen.mass.tolist() == [0, 1, 0]
    assert memory(Centroids(torch.ones(3, 2), torch.ones(3))).values.tolist() == [[1, 1], [1.5, 1.5], [1, 1]]
    assert memory(broken).values.tolist() == [[1, 1], [1.75, 1.75], [1, 1]]
