import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.losses import ContextConsistencyLoss

SEEDS = st.integers(0, 2**31 - 1)
LOSS = ContextConsistencyLoss()


def case(seed=0, share=0.5, dtype=torch.float64, n=2, k=3, h=3, w=5):
    rng = torch.Generator().manual_seed(seed)
    first, second = torch.randn(2, n, k, h, w, generator=rng, dtype=torch.float64).mul(3).to(dtype)
    mask = (torch.rand(n, h, w, generator=rng) < share).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return first, second, mask


def plain(first, second, mask):
    """Pixel by pixel, from entropies."""
    small, p, q = mask[:, ::2, ::2], first.softmax(1), second.softmax(1)

    def entropy(x):
        return -torch.special.xlogy(x, x).sum(1)

    each = (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2)[small]
    return each.mean() if len(each) else first.new_zeros(())


@given(SEEDS, st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_the_difference_of_entropies(seed, share):
    torch.testing.assert_close(LOSS(*case(seed, share)), plain(*case(seed, share)))


@given(SEEDS)
def test_symmetric_bounded_and_zero_where_both_say_the_same(seed):
    first, second, mask = case(seed)
    loss = LOSS(first, second, mask)
    torch.testing.assert_close(loss, LOSS(second, first, mask))
    assert -1e-12 <= loss <= math.log(2)
    same = LOSS(first, first + 7, mask)  # logits that differ by a constant say the same
    torch.testing.assert_close(same, torch.zeros_like(same), atol=1e-12, rtol=0)


def test_two_certain_and_contrary_answers_are_ln_2_apart():
    first = torch.tensor([50.0, 0.0], dtype=torch.float64).view(1, 2, 1, 1)
    loss = LOSS(first, -first + 50, torch.ones(1, 1, 1, dtype=torch.bool))
    torch.testing.assert_close(loss, torch.tensor(math.log(2), dtype=torch.float64))


def test_gradcheck_in_both():
    first, second, mask = case()
    assert gradcheck(lambda a, b: LOSS(a, b, mask), (first.requires_grad_(), second.requires_grad_()))


@pytest.mark.parametrize("spoil", ["mask", "batch"])
def test_over_nothing_it_is_zero_and_connected(spoil):
    first, second, mask = case(share=0.0)
    first.requires_grad_()
    if spoil == "batch":
        first, second, mask = first[:0], second[:0], mask[:0]
    loss = LOSS(first, second, mask)
    assert loss == 0
    loss.backward()


def test_nan_outside_the_mask_does_not_spread():
    first, second, mask = case()
    spoiled = first.where(mask[:, None, ::2, ::2], float("nan")).requires_grad_()
    loss = LOSS(spoiled, second, mask)
    torch.testing.assert_close(loss, LOSS(first, second, mask))
    loss.backward()
    assert spoiled.grad.isfinite().all()
    assert LOSS(torch.full_like(first, float("nan")), second, mask).isnan()


def test_the_mask_is_read_at_the_nearest_pixel():
    first, second, _ = case(n=1, h=1, w=2)
    mask = torch.zeros(1, 3, 6, dtype=torch.bool)
    mask[0, 1, 1] = True  # the middle of the left half
    torch.testing.assert_close(
        LOSS(first, second, mask), plain(first[..., :1], second[..., :1], torch.ones(1, 1, 1) > 0)
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    first, second, mask = case(dtype=dtype)
    found = LOSS(first, second, mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), plain(first.double(), second.double(), mask), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_compiles_without_a_graph_break(share):
    compiled = torch.compile(LOSS, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*case(share=share)), LOSS(*case(share=share)))


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"first": torch.zeros(2, 3, 3)}, ValueError, "`first` must have shape (N, K, h, w); got (2, 3, 3)."),
        ({"second": torch.zeros(2, 4, 3, 5)}, ValueError, "`second` must have shape (N=2, K=3, h=3, w=5); got"),
        ({"mask": torch.zeros(1, 6, 10) > 0}, ValueError, "`mask` must have shape (N=2, H, W); got (1, 6, 10)."),
        ({"mask": torch.zeros(2, 6, 10)}, TypeError, "`mask` must be of dtype bool; got torch.float32."),
    ],
)
def test_errors_name_the_argument(change, kind, text):
    with pytest.raises(kind, match=re.escape(f"ContextConsistencyLoss: {text}")):
        LOSS(**(dict(zip(("first", "second", "mask"), case(), strict=True)) | change))
