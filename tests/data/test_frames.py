import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.data import from_rgb, to_rgb
from dastc.data.frames import renormalise

CONVENTIONS = ("imagenet", "half", "clip", "caffe")
EVERY = st.sampled_from(CONVENTIONS)
SEEDS = st.integers(0, 2**31 - 1)


def _rgb(seed=0, shape=(2, 4, 5, 3)):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_all_8_bit_values_come_back(convention):
    rgb = torch.arange(256, dtype=torch.uint8).view(16, 16, 1).repeat(1, 1, 3)
    rgb[..., 1], rgb[..., 2] = 255 - rgb[..., 0], rgb[..., 0].T
    frames = from_rgb(rgb, convention)
    assert frames.dtype == torch.float32
    assert frames.is_contiguous()
    assert torch.equal(to_rgb(frames, convention), rgb)


@pytest.mark.parametrize(
    ("convention", "wanted"),
    [
        # red 255, green 0, blue 51, by hand
        ("imagenet", [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]),
        ("half", [1.0, -1.0, -0.6]),
        ("clip", [(1 - 0.48145466) / 0.26862954, -0.4578275 / 0.26130258, (0.2 - 0.40821073) / 0.27577711]),
        ("caffe", [51 - 104.00698793, -116.66876762, 255 - 122.67891434]),
    ],
)
def test_each_convention_is_as_its_models_want_it(convention, wanted):
    frames = from_rgb(torch.tensor([[[255, 0, 51]]], dtype=torch.uint8), convention)
    torch.testing.assert_close(frames.flatten(), torch.tensor(wanted), rtol=1e-5, atol=1e-5)


@given(SEEDS, EVERY, EVERY)
def test_renormalising_is_the_other_normalisation(seed, given, wanted):
    rgb = _rgb(seed)
    got = renormalise(from_rgb(rgb, given), wanted, given=given)
    torch.testing.assert_close(got, from_rgb(rgb, wanted), rtol=1e-4, atol=1e-4)


@given(SEEDS, EVERY, EVERY)
def test_renormalising_there_and_back_clips_nothing(seed, given, wanted):
    frames = 10 * torch.randn((1, 2, 3, 4, 5), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    before = frames.clone()
    there = renormalise(frames, wanted, given=given)
    torch.testing.assert_close(renormalise(there, given, given=wanted), before)
    assert torch.equal(frames, before)  # the argument is left alone
    assert there.dtype == torch.float64


def test_half_precision_stays():
    assert renormalise(torch.zeros(1, 3, 2, 2).half(), "half").dtype == torch.float16


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: from_rgb(_rgb().int()), TypeError, "from_rgb: `rgb` must be of dtype uint8; got torch.int32"),
        (lambda: from_rgb(_rgb()[..., :2]), ValueError, r"from_rgb: `rgb` must have shape \(..., H, W, 3\)"),
        (lambda: from_rgb(_rgb(), "bgr"), ValueError, "from_rgb: `convention` must be one of 'imagenet', .*'bgr'"),
        (lambda: to_rgb(_rgb()), TypeError, "to_rgb: `frames` must be of dtype float; got torch.uint8"),
        (lambda: to_rgb(torch.zeros(4, 4)), ValueError, r"to_rgb: `frames` must have shape \(..., 3, H, W\)"),
        (lambda: to_rgb(torch.zeros(3, 4, 4), "bgr"), ValueError, "to_rgb: `convention` must be one of"),
        (lambda: renormalise(_rgb(), "half"), TypeError, "renormalise: `frames` must be of dtype float"),
        (lambda: renormalise(torch.zeros(3, 4, 4), "x"), ValueError, "renormalise: `convention` must be one of"),
        (lambda: renormalise(torch.zeros(3, 4, 4), "half", given="x"), ValueError, "renormalise: `given` must be"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
