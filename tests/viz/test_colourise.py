from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.viz import colourise, overlay

SPACE = SimpleNamespace(names=("a", "b", "c"), colours=((10, 20, 30), (40, 50, 60), (255, 0, 7)), ignore_index=255)


def test_exact_colours():
    labels = torch.tensor([[[0, 2], [1, 255]], [[3, -1], [2, 0]]])
    want = torch.tensor(
        [
            [[[10, 20, 30], [255, 0, 7]], [[40, 50, 60], [0, 0, 0]]],
            [[[0, 0, 0], [0, 0, 0]], [[255, 0, 7], [10, 20, 30]]],
        ],
        dtype=torch.uint8,
    )
    assert torch.equal(colourise(labels, SPACE), want)


def test_an_ignored_class_is_black():
    space = SimpleNamespace(names=SPACE.names, colours=SPACE.colours, ignore_index=1)
    assert colourise(torch.tensor([[0, 1]]), space).tolist() == [[[10, 20, 30], [0, 0, 0]]]


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4, 5), (0, 5), (2, 0, 4, 5)])
def test_leading_axes_and_empty_ones_are_kept(shape):
    labels = torch.zeros(shape, dtype=torch.int64)
    assert colourise(labels, SPACE).shape == (*shape, 3)
    assert overlay(torch.zeros(*shape, 3, dtype=torch.uint8), labels, SPACE).shape == (*shape, 3)


@given(st.integers(0, 2**31 - 1), st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_overlay_mixes_where_there_is_a_class_and_only_there(seed, opacity):
    rng = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8, generator=rng)
    labels = torch.randint(-1, 5, (2, 4, 5), generator=rng)
    found, before = overlay(rgb, labels, SPACE, opacity=opacity), rgb.clone()
    inside = (labels >= 0) & (labels < 3)
    want = (1 - opacity) * rgb.double() + opacity * colourise(labels, SPACE).double()
    assert found.dtype == torch.uint8
    assert (found[inside].double() - want[inside]).abs().max() <= 0.5 + 1e-4
    assert torch.equal(found[~inside], rgb[~inside])
    assert torch.equal(rgb, before)


def test_opacity_is_a_half_by_default():
    rgb, labels = torch.full((1, 1, 3), 100, dtype=torch.uint8), torch.zeros(1, 1, dtype=torch.int64)
    assert overlay(rgb, labels, SPACE).tolist() == [[[55, 60, 65]]]


RGB, LABELS = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("use", "kind", "message"),
    [
        (
            lambda: colourise(LABELS.int(), SPACE),
            TypeError,
            r"^colourise: `labels` must be of dtype int64; got torch.i",
        ),
        (
            lambda: colourise(LABELS[0], SPACE),
            ValueError,
            r"^colourise: `labels` must have shape \(..., H, W\); got \(5",
        ),
        (lambda: overlay(RGB, LABELS.int(), SPACE), TypeError, r"^overlay: `labels` must be of dtype int64; got torch"),
        (
            lambda: overlay(RGB.float(), LABELS, SPACE),
            TypeError,
            r"^overlay: `rgb` must be of dtype uint8; got torch.f",
        ),
        (lambda: overlay([0], LABELS, SPACE), TypeError, r"^overlay: `rgb` must be of dtype uint8; got list\.$"),
        (
            lambda: overlay(RGB[..., :2], LABELS, SPACE),
            ValueError,
            r"^overlay: `rgb` must have shape \(..., H, W, 3\); got \(4, 5, 2\)\.$",
        ),
        (
            lambda: overlay(RGB, LABELS[:2], SPACE),
            ValueError,
            r"`labels` must have the picture's shape \(4, 5\); got \(2, 5\)\. Resize labels by nearest pixel\.$",
        ),
        (
            lambda: overlay(RGB, LABELS.to("meta"), SPACE),
            ValueError,
            r"^overlay: all tensors must lie on one device; got `rgb` on cpu, `labels` on meta\.$",
        ),
        (
            lambda: overlay(RGB, LABELS, SPACE, opacity=1.5),
            ValueError,
            r"^overlay: `opacity` must lie in \[0, 1\]; got 1\.5\.$",
        ),
    ],
)
def test_bad_arguments_are_named(use, kind, message):
    with pytest.raises(kind, match=message):
        use()
