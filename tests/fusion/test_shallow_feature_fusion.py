import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.fusion import ShallowFeatureFusion

SEEDS = st.integers(0, 2**31 - 1)


def _case(seed=0, n=2, d=3, h=2, w=3, scale=4, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    here, there = (torch.randn(n, d, h, w, generator=rng, dtype=torch.float64).to(dtype) for _ in range(2))
    return here, there, torch.rand(n, h * scale, w * scale, generator=rng) < 0.5


def test_by_hand():
    here, there = torch.full((1, 1, 1, 3), 10.0), torch.full((1, 1, 1, 3), 20.0)
    mask = torch.tensor([[[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]]]).bool()  # shares 1, 1/4, 0
    fused = ShallowFeatureFusion(alpha=0.4)(here, there, mask)
    torch.testing.assert_close(fused, torch.tensor([[[[14.0, 11.0, 10.0]]]]))


def test_three_tenths_are_the_default():
    fused = ShallowFeatureFusion()(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1))
    torch.testing.assert_close(fused, torch.full((1, 1, 1, 1), 0.3))


@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.floats(0, 1))
def test_it_is_the_formula(seed, n, d, h, scale, alpha):
    here, there, mask = _case(seed, n, d, h, h + 1, scale)
    fused = ShallowFeatureFusion(alpha=alpha)(here, there, mask)
    for i in range(h):
        for j in range(h + 1):
            m = mask[:, i * scale : (i + 1) * scale, j * scale : (j + 1) * scale].double().mean(dim=(1, 2))[:, None]
            h_, g = here[:, :, i, j], there[:, :, i, j]
            torch.testing.assert_close(fused[:, :, i, j], m * (alpha * g + (1 - alpha) * h_) + (1 - m) * h_)


def test_the_extremes():
    here, there, mask = _case()
    everywhere = torch.ones_like(mask)
    assert torch.equal(ShallowFeatureFusion(alpha=0)(here, there, everywhere), here)
    assert torch.equal(ShallowFeatureFusion(alpha=1)(here, there, ~everywhere), here)
    torch.testing.assert_close(ShallowFeatureFusion(alpha=1)(here, there, everywhere), there)
    torch.testing.assert_close(ShallowFeatureFusion(alpha=0.7)(here, here, mask), here)


def test_a_float_mask_counts_by_its_value():
    here, there, mask = _case()
    fusion = ShallowFeatureFusion()
    assert torch.equal(fusion(here, there, mask), fusion(here, there, mask.double()))
    half = fusion(here, there, torch.full(mask.shape, 0.5, dtype=torch.float64))
    torch.testing.assert_close(half, here + 0.15 * (there - here))


def test_samples_do_not_mix():
    here, there, mask = _case(n=3)
    fusion = ShallowFeatureFusion()
    each = [fusion(*(x[i : i + 1] for x in (here, there, mask))) for i in range(3)]
    torch.testing.assert_close(fusion(here, there, mask), torch.cat(each))


def test_gradients_reach_both_contexts():
    here, there, mask = _case(n=1, d=2)
    soft = torch.rand(mask.shape, dtype=torch.float64, requires_grad=True)
    here.requires_grad_()
    there.requires_grad_()
    assert gradcheck(ShallowFeatureFusion(), (here, there, soft))
    nothing = torch.zeros_like(mask)
    ShallowFeatureFusion()(here, there, nothing).backward(torch.randn(here.shape, dtype=torch.float64))
    assert there.grad.eq(0).all()
    assert here.grad.ne(0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtypes_and_layouts(dtype, layout):
    exact = _case()
    here, there, mask = _case(dtype=dtype)
    fused = ShallowFeatureFusion()(here.contiguous(memory_format=layout), there.contiguous(memory_format=layout), mask)
    assert fused.dtype == dtype
    tolerance = {torch.bfloat16: 0.05, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(fused.double(), ShallowFeatureFusion()(*exact), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("masked", [0.0, 0.25, 1.0])
def test_it_compiles_without_a_break(masked):
    here, there, mask = _case(dtype=torch.float32)
    mask = (torch.rand(mask.shape) < masked) if 0 < masked < 1 else torch.full_like(mask, bool(masked))
    fusion = ShallowFeatureFusion()
    upstream = torch.randn(here.shape)
    results = []
    for function in (fusion, torch.compile(fusion, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in (here, there)]
        out = function(*leaves, mask)
        results.append((out, *torch.autograd.grad(out, leaves, upstream)))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


def test_extra_repr_shows_the_argument():
    assert ShallowFeatureFusion(alpha=0.25).extra_repr() == "alpha=0.25"


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match=rf"^ShallowFeatureFusion: `alpha` must lie in \[0, 1\]; got {alpha}\.$"):
        ShallowFeatureFusion(alpha=alpha)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 3, 4), (2, 3, 4, 5), (2, 8, 8)], "`features` must have shape (N, D, h, w); got (2, 3, 4)."),
        (
            [(2, 3, 4, 5), (2, 3, 5, 4), (2, 8, 8)],
            "`context` must have shape (N=2, D=3, h=4, w=5); got (2, 3, 5, 4).",
        ),
        ([(2, 3, 4, 5), (2, 3, 4, 5), (2, 1, 8, 8)], "`mask` must have shape (N=2, H, W); got (2, 1, 8, 8)."),
        ([(2, 3, 4, 5), (2, 3, 4, 5), (1, 8, 8)], "`mask` must have shape (N=2, H, W); got (1, 8, 8)."),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(ValueError, match=f"^{re.escape('ShallowFeatureFusion: ' + message)}$"):
        ShallowFeatureFusion()(*(torch.zeros(shape) for shape in shapes))


def test_devices_that_differ():
    places = "`features` on cpu, `context` on cpu, `mask` on meta"
    message = f"ShallowFeatureFusion: all tensors must lie on one device; got {places}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ShallowFeatureFusion()(*(torch.zeros(1, 1, 1, 1),) * 2, torch.zeros(1, 1, 1, device="meta"))
