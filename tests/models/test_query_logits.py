"""Masks and their classes, as logits of pixels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.functional import upsampled_cross_entropy
from dastc.models import logits_of
from dastc.models.query_logits import query_logits


def answer(seed=0, scale=1.0, shape=(2, 5, 4, 3, 6), dtype=torch.float32):
    n, q, k, h, w = shape
    generator = torch.Generator().manual_seed(seed)
    classes = scale * torch.randn(n, q, k + 1, generator=generator, dtype=dtype)
    return classes, scale * torch.randn(n, q, h, w, generator=generator, dtype=dtype)


def sums(classes, masks):
    """Say it as published inference does, pixel by pixel and query by query."""
    shares = torch.zeros(masks.shape[0], classes.shape[2] - 1, *masks.shape[2:], dtype=masks.dtype)
    for q in range(masks.shape[1]):
        p = classes[:, q].softmax(-1)[:, :-1]
        shares += p[:, :, None, None] * masks[:, q].sigmoid()[:, None]
    return shares


@given(st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 6.0]))
def test_it_is_the_logarithm_of_the_published_sums(seed, scale):
    classes, masks = answer(seed, scale, dtype=torch.float64)
    torch.testing.assert_close(query_logits(classes, masks), sums(classes, masks).log())


def test_the_softmax_is_each_class_share_of_what_covers_the_pixel():
    classes, masks = answer(3, dtype=torch.float64)
    shares = sums(classes, masks)
    torch.testing.assert_close(query_logits(classes, masks).softmax(1), shares / shares.sum(1, keepdim=True))


@given(st.integers(0, 10_000))
def test_the_order_of_queries_does_not_matter(seed):
    classes, masks = answer(seed, dtype=torch.float64)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(query_logits(classes[:, order], masks[:, order]), query_logits(classes, masks))


def test_what_covers_nothing_stays_finite_and_keeps_its_gradient():
    classes, masks = answer(0)
    masks = (masks - 500).requires_grad_()  # a sigmoid of exactly 0 in float32
    logits = query_logits(classes, masks)
    assert logits.isfinite().all()
    logits.log_softmax(1)[:, 0].sum().backward()
    assert masks.grad.isfinite().all()
    assert masks.grad.abs().amax(1).gt(0).all()


def test_cross_entropy_can_fall_to_nothing():
    # of the sums themselves, all between 0 and 1, it could not fall below log(1 + 3/e)
    classes = torch.tensor([[[30.0, 0, 0, 0, 0]]])
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    assert upsampled_cross_entropy(query_logits(classes, torch.full((1, 1, 2, 2), 9.0)), labels) < 1e-4


def test_half_precision_is_widened_even_under_autocast():
    classes, masks = answer(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said = query_logits(classes.bfloat16(), masks.bfloat16())
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, query_logits(classes.bfloat16().float(), masks.bfloat16().float()))


def test_the_gradient_is_that_of_the_formula():
    classes, masks = answer(2, shape=(1, 3, 2, 2, 2), dtype=torch.float64)
    assert torch.autograd.gradcheck(query_logits, (classes.requires_grad_(), masks.requires_grad_()))


def test_logits_of_takes_the_answer_of_queries():
    class Output:
        class_queries_logits, masks_queries_logits = answer()

    assert torch.equal(logits_of(Output()), query_logits(*answer()))


@pytest.mark.parametrize(
    ("classes", "masks", "message"),
    [
        ((2, 5), (2, 5, 3, 6), r"query_logits: `class_logits` must have shape \(N, Q, K\+1\); got \(2, 5\)"),
        (
            (2, 5, 4),
            (2, 6, 3, 6),
            r"query_logits: `mask_logits` must have shape \(N=2, Q=5, h, w\); got \(2, 6, 3, 6\)",
        ),
    ],
)
def test_wrong_shapes_are_refused(classes, masks, message):
    with pytest.raises(ValueError, match=message):
        query_logits(torch.zeros(classes), torch.zeros(masks))


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"query_logits: `mask_logits` must be of dtype float; got torch\.int64"):
        query_logits(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4, 4, dtype=torch.long))
