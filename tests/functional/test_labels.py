import math
import re
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from dastc.functional import flow_warp, resize_labels
from dastc.functional.labels import class_presence, draw_classes, warp_labels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)


def _labels(seed, shape, low=-2, high=9):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


# resize_labels


def test_a_cell_takes_the_label_at_its_centre():
    labels = torch.arange(15, device=DEVICE).view(1, 3, 5)
    assert resize_labels(labels, (1, 1)).tolist() == [[[7]]]
    # two cells of five columns: centres at 1.25 and 3.75; three rows to six: each twice
    assert resize_labels(labels, (6, 2))[0].tolist() == [[1, 3], [1, 3], [6, 8], [6, 8], [11, 13], [11, 13]]


@given(SEEDS, st.lists(st.integers(1, 60), min_size=4, max_size=4, unique=True))
def test_resizing_finds_the_pixel_that_holds_the_centre(seed, sizes):
    h, w, height, width = sizes
    labels = _labels(seed, (2, h, w))
    rows = [math.floor(Fraction(2 * i + 1, 2) * Fraction(h, height)) for i in range(height)]
    columns = [math.floor(Fraction(2 * j + 1, 2) * Fraction(w, width)) for j in range(width)]
    assert torch.equal(resize_labels(labels, (height, width)), labels[:, rows][:, :, columns])


@given(SEEDS, st.integers(1, 6), st.integers(1, 6), st.integers(1, 5))
def test_resizing_by_a_whole_factor(seed, h, w, factor):
    labels = _labels(seed, (2, h, w))
    large = resize_labels(labels, (h * factor, w * factor))
    assert torch.equal(large, labels.repeat_interleave(factor, 1).repeat_interleave(factor, 2))
    assert torch.equal(resize_labels(large, (h, w)), labels)
    assert torch.equal(resize_labels(labels, (h, w)), labels)


@pytest.mark.parametrize("size", [(65, 129), (128, 256), (64, 128), (1024, 2048)])
def test_resizing_means_nearest_exact(size):
    labels = _labels(0, (1, 512, 1024))
    want = F.interpolate(labels[:, None].double(), size=size, mode="nearest-exact")[:, 0].long()
    assert torch.equal(resize_labels(labels, size), want)


@given(SEEDS)
def test_resizing_keeps_leading_axes(seed):
    labels = _labels(seed, (2, 3, 5, 7))
    want = torch.stack([resize_labels(x, (4, 6)) for x in labels])
    assert torch.equal(resize_labels(labels, (4, 6)), want)
    assert resize_labels(labels[:0], (4, 6)).shape == (0, 3, 4, 6)


_EMPTY = "`labels` must have shape (..., H, W), none empty; got "


@pytest.mark.parametrize(
    ("labels", "size", "kind", "text"),
    [
        (torch.zeros(2, 3).long(), (2, 2), ValueError, _EMPTY + "(2, 3)."),
        (torch.zeros(1, 0, 3).long(), (2, 2), ValueError, _EMPTY + "(1, 0, 3)."),
        (
            torch.zeros(1, 2, 3).long(),
            (2, 0),
            ValueError,
            "`size` must be (height, width), both at least 1; got (2, 0).",
        ),
        (torch.zeros(1, 2, 3), (2, 2), TypeError, "`labels` must be of dtype int64; got torch.float32."),
    ],
)
def test_errors_of_resizing(labels, size, kind, text):
    with _raises(kind, f"resize_labels: {text}"):
        resize_labels(labels, size)


# warp_labels


def _flow(seed, n, h, w, reach=3.0, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return (torch.randn(n, 2, h, w, generator=rng, dtype=torch.float64) * reach).to(DEVICE, dtype)


def test_known_values_of_warping():
    labels = torch.tensor([[[1, 2, 3], [4, 5, 6]]], device=DEVICE)
    flow = torch.zeros(1, 2, 2, 3, device=DEVICE)
    flow[0, :, 0, 0] = torch.tensor([1.4, 0.6])  # reads (1.4, 0.6), nearest to (1, 1)
    flow[0, :, 1, 2] = torch.tensor([-2.0, -1.0])  # reads (0, 0)
    flow[0, :, 0, 2] = torch.tensor([0.1, 0.0])  # beyond the right border, if by little
    assert warp_labels(labels, flow, ignore_index=77).tolist() == [[[5, 2, 77], [4, 5, 1]]]


@given(SEEDS, st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True))
def test_warping_equals_a_loop_over_pixels(seed, sizes):
    n, h, w = sizes
    labels, flow = _labels(seed, sizes), _flow(seed, n, h, w)
    want = torch.full_like(labels, 255)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                at_x, at_y = x + float(flow[i, 0, y, x]), y + float(flow[i, 1, y, x])
                if 0 <= at_x <= w - 1 and 0 <= at_y <= h - 1:
                    want[i, y, x] = labels[i, round(at_y), round(at_x)]
    assert torch.equal(warp_labels(labels, flow), want)


@given(SEEDS)
def test_warping_agrees_with_flow_warp_on_where_the_picture_ends(seed):
    labels, flow = _labels(seed, (2, 5, 7), low=0), _flow(seed, 2, 5, 7)
    assert torch.equal(warp_labels(labels, flow) != 255, flow_warp(flow, flow)[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_zero_flow_is_the_identity_however_wide_the_picture(dtype):
    # neither half can count 3000 columns
    labels = torch.arange(3 * 3000, device=DEVICE).view(1, 3, 3000)
    assert torch.equal(warp_labels(labels, _flow(0, 1, 3, 3000, 0.0, dtype)), labels)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_flow_that_leads_nowhere_is_ignored(value, axis):
    labels, flow = _labels(0, (2, 5, 7), low=0), _flow(0, 2, 5, 7, 0.0)
    flow[1, axis, 2, 3] = value
    want = labels.clone()
    want[1, 2, 3] = 255
    assert torch.equal(warp_labels(labels, flow), want)


def test_warping_an_empty_batch():
    assert warp_labels(_labels(0, (0, 5, 7)), _flow(0, 0, 5, 7)).shape == (0, 5, 7)


@pytest.mark.parametrize(
    ("labels", "flow", "kind", "text"),
    [
        (
            torch.zeros(5, 7).long(), torch.zeros(1, 2, 5, 7), ValueError,
            "`labels` must have shape (N, H, W); got (5, 7).",
        ),
        (
            torch.zeros(1, 5, 7).long(), torch.zeros(1, 2, 7, 5), ValueError,
            "`flow` must have shape (N=1, 2, H=5, W=7); got (1, 2, 7, 5).",
        ),
        (
            torch.zeros(1, 5, 7), torch.zeros(1, 2, 5, 7), TypeError,
            "`labels` must be of dtype int64; got torch.float32.",
        ),
        (
            torch.zeros(1, 5, 7).long(), torch.zeros(1, 2, 5, 7).long(), TypeError,
            "`flow` must be of dtype float; got torch.int64.",
        ),
    ],
)  # fmt: skip
def test_errors_of_warping(labels, flow, kind, text):
    with _raises(kind, f"warp_labels: {text}"):
        warp_labels(labels, flow)


# class_presence


@given(SEEDS, st.integers(1, 12), st.lists(st.integers(1, 6), min_size=0, max_size=3))
def test_presence_equals_looking_for_each_class(seed, num_classes, shape):
    labels = _labels(seed, (4, *shape))
    want = [[bool((row == k).any()) for k in range(num_classes)] for row in labels]
    assert class_presence(labels, num_classes).tolist() == want


@pytest.mark.parametrize("label", [254, 19, -1, -100, 2**62, -(2**62)])
def test_labels_outside_are_not_present(label):
    labels = torch.tensor([[3, label], [label, label]], device=DEVICE)
    want = torch.zeros(2, 19, dtype=torch.bool, device=DEVICE)
    want[0, 3] = True
    assert torch.equal(class_presence(labels, 19), want)


def test_presence_in_an_empty_batch_and_of_labels_that_are_no_integers():
    assert class_presence(_labels(0, (0, 5, 7)), 3).shape == (0, 3)
    assert not class_presence(_labels(0, (2, 0)), 3).any()
    with _raises(TypeError, "class_presence: `labels` must be of dtype int64; got torch.int32."):
        class_presence(torch.zeros(1, 2).int(), 3)


# draw_classes


def _candidates(seed, batch, num_classes, share=0.6):
    return (torch.rand(batch, num_classes, generator=torch.Generator().manual_seed(seed)) < share).to(DEVICE)


@given(SEEDS, st.integers(1, 20), st.integers(1, 12), st.integers(0, 10).map(lambda x: x / 10))
def test_a_number_of_candidates_is_drawn(seed, num_classes, amount, share):
    candidates = _candidates(seed, 6, num_classes, share)
    drawn = draw_classes(candidates, amount, generator=torch.Generator().manual_seed(seed))
    assert not (drawn & ~candidates).any()
    assert torch.equal(drawn.sum(1), candidates.sum(1).clamp(max=amount))


@pytest.mark.parametrize("percent", [1, 5, 10, 25, 30, 50, 60, 70, 90, 99])
def test_a_share_of_the_candidates_is_drawn_rounded_up(percent):
    # row i has i candidates
    candidates = torch.ones(151, 150, dtype=torch.bool, device=DEVICE).tril(-1)
    drawn = draw_classes(candidates, percent / 100)
    assert not (drawn & ~candidates).any()
    assert drawn.sum(1).tolist() == [math.ceil(Fraction(percent, 100) * i) for i in range(151)]


def test_every_candidate_is_as_likely_and_samples_are_drawn_apart():
    candidates = torch.tensor([True, False, True, True, False, True], device=DEVICE).expand(6000, 6)
    drawn = draw_classes(candidates, 2, generator=torch.Generator().manual_seed(0)).double()
    rates = drawn.mean(0).tolist()
    spread = 5 * math.sqrt(0.25 / 6000)
    assert rates == pytest.approx([0.5, 0, 0.5, 0.5, 0, 0.5], abs=spread)
    # of two of four, a pair comes together once in six
    assert float((drawn[:, 0] * drawn[:, 2]).mean()) == pytest.approx(1 / 6, abs=spread)


def test_the_generator_decides():
    candidates = _candidates(0, 8, 19)
    draws = [draw_classes(candidates, 0.5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    before = torch.get_rng_state()
    draw_classes(candidates, 2, generator=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    one = draw_classes(candidates, 2)
    torch.manual_seed(3)
    assert torch.equal(draw_classes(candidates, 2), one)


@pytest.mark.parametrize("amount", [0.01, 0.5, 1, 2.0, 19])
def test_a_sample_with_a_candidate_gets_one_and_one_without_gets_none(amount):
    candidates = torch.eye(3, 4, dtype=torch.bool, device=DEVICE)
    candidates[2] = False
    assert torch.equal(draw_classes(candidates, amount), candidates)
    assert draw_classes(candidates[:0], amount).shape == (0, 4)


_NUMBER = "must be a share in (0, 1) or a whole number >= 1; got"


@pytest.mark.parametrize(
    ("candidates", "amount", "kind", "text"),
    [
        (torch.ones(3).bool(), 1, ValueError, "`candidates` must have shape (B, K); got (3,)."),
        (torch.ones(2, 3), 1, TypeError, "`candidates` must be of dtype bool; got torch.float32."),
        (torch.ones(2, 3).bool(), -1, ValueError, "`amount` must lie in [0, inf]; got -1."),
        (torch.ones(2, 3).bool(), float("nan"), ValueError, "`amount` must lie in [0, inf]; got nan."),
        (torch.ones(2, 3).bool(), 0, ValueError, f"`amount` {_NUMBER} 0."),
        (torch.ones(2, 3).bool(), 1.5, ValueError, f"`amount` {_NUMBER} 1.5."),
        (torch.ones(2, 3).bool(), float("inf"), ValueError, f"`amount` {_NUMBER} inf."),
    ],
)
def test_errors_of_drawing(candidates, amount, kind, text):
    with _raises(kind, f"draw_classes: {text}"):
        draw_classes(candidates, amount)


def test_all_of_them_compile_without_a_graph_break():
    def everything(labels, flow, candidates):
        return (
            resize_labels(labels, (4, 9)),
            warp_labels(labels, flow),
            class_presence(labels, 6),
            draw_classes(candidates, 100),
        )

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    arguments = _labels(0, (2, 5, 7)), _flow(0, 2, 5, 7), _candidates(0, 2, 6)
    for one, two in zip(compiled(*arguments), everything(*arguments), strict=True):
        assert torch.equal(one, two)
