import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from dastc.functional import resize_flow
from dastc.ops.resize_flow.op import resize_flow_backward_op, resize_flow_op

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# on a GPU PyTorch adds up the gradient of a resized picture in no fixed order, so not even a repetition is equal
SAME = {"rtol": 0, "atol": 0} if DEVICE == "cpu" else {}
# N, H, W, height, width: pairwise different
SIZES = st.lists(st.integers(1, 11), min_size=5, max_size=5, unique=True)
SEEDS = st.integers(0, 2**31 - 1)


def _flow(seed, n, h, w, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, h, w, generator=rng, dtype=torch.float64).to(DEVICE, dtype)


def _plain(flow, size):
    dx = F.interpolate(flow[:, :1], size=size, mode="bilinear", align_corners=False) * (size[1] / flow.shape[3])
    dy = F.interpolate(flow[:, 1:], size=size, mode="bilinear", align_corners=False) * (size[0] / flow.shape[2])
    return torch.cat((dx, dy), dim=1)


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    flow = torch.tensor([[[0.0, 4.0]], [[1.0, 3.0]]], device=DEVICE).unsqueeze(0)  # (1, 2, 1, 2)
    # twice as wide: half-pixel centres lie at -1/4, 1/4, 3/4, 5/4 of the old grid, and only dx grows
    want = torch.tensor([[[0.0, 2, 6, 8]] * 3, [[3.0, 4.5, 7.5, 9]] * 3], device=DEVICE).unsqueeze(0)
    torch.testing.assert_close(resize_flow(flow, (3, 4)), want)


@given(SEEDS, SIZES)
def test_equals_interpolating_each_channel_and_scaling_it(seed, sizes):
    n, h, w, height, width = sizes
    flow = _flow(seed, n, h, w)
    torch.testing.assert_close(resize_flow(flow, (height, width)), _plain(flow, (height, width)))


@given(SEEDS, SIZES)
def test_gradient_equals_that_of_interpolating(seed, sizes):
    n, h, w, height, width = sizes
    flow = _flow(seed, n, h, w).requires_grad_()
    out, want = resize_flow(flow, (height, width)), _plain(flow, (height, width))
    up = torch.randn_like(out)
    torch.testing.assert_close(torch.autograd.grad(out, flow, up), torch.autograd.grad(want, flow, up))


@given(SEEDS, SIZES)
def test_transposing_the_picture_exchanges_dx_and_dy(seed, sizes):
    n, h, w, height, width = sizes
    flow = _flow(seed, n, h, w)
    turned = resize_flow(flow.flip(1).mT, (width, height))
    torch.testing.assert_close(turned.mT.flip(1), resize_flow(flow, (height, width)))


@given(SEEDS, SIZES)
def test_a_uniform_motion_survives_the_way_there_and_back(seed, sizes):
    n, h, w, height, width = sizes
    flow = _flow(seed, n, 1, 1).expand(n, 2, h, w)
    torch.testing.assert_close(resize_flow(resize_flow(flow, (height, width)), (h, w)), flow)


@given(SEEDS, SIZES)
def test_a_batch_equals_its_samples(seed, sizes):
    n, h, w, height, width = sizes
    flow = _flow(seed, n, h, w)
    one_by_one = [resize_flow(x, (height, width)) for x in flow.split(1)]
    torch.testing.assert_close(resize_flow(flow, (height, width)), torch.cat(one_by_one))


def test_the_same_size_is_a_copy():
    flow = _flow(0, 1, 3, 4)
    out = resize_flow(flow, (3, 4))
    assert torch.equal(out, flow)
    assert out.data_ptr() != flow.data_ptr()


@pytest.mark.parametrize("size", [(7, 4), (2, 5), (1, 1)])
def test_derivatives_of_any_order(size):
    flow = _flow(0, 2, 3, 5).requires_grad_()
    assert gradcheck(lambda x: resize_flow(x, size), flow)
    assert gradgradcheck(lambda x: resize_flow(x, size), flow)
    # the operator is linear: the derivative of its gradient in the upstream gradient is the operator again
    up = torch.randn(2, 2, *size, dtype=torch.float64, device=DEVICE, requires_grad=True)
    (first,) = torch.autograd.grad(resize_flow(flow, size), flow, up, create_graph=True)
    direction = torch.randn_like(first).requires_grad_()
    (second,) = torch.autograd.grad(first, up, direction, create_graph=True)
    torch.testing.assert_close(second, _plain(direction, size))
    assert second.requires_grad


def _layouts():
    flow = _flow(0, 2, 4, 5)
    return {
        "contiguous": flow,
        "channels_last": flow.to(memory_format=torch.channels_last),
        "sliced": _flow(1, 3, 9, 7)[1:, :, 2:6, 1:6],
        "expanded": flow[:1, :, :1].expand(2, -1, 4, -1),
        "empty": flow[:0],
        "half": flow.half(),
    }


@pytest.mark.parametrize("layout", _layouts())
@pytest.mark.parametrize("size", [(3, 7), (4, 5)])
def test_registration_is_sound(layout, size):
    flow = _layouts()[layout].detach().requires_grad_()
    torch.library.opcheck(resize_flow_op, (flow, *size))
    up = torch.randn(len(flow), 2, size[1], size[0], dtype=flow.dtype, device=DEVICE).mT.requires_grad_()
    torch.library.opcheck(resize_flow_backward_op, (up, 4, 5))


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded"])
def test_strides_do_not_matter(layout):
    flow = _layouts()[layout].detach().requires_grad_()
    dense = flow.detach().contiguous().requires_grad_()
    one, other = resize_flow(flow, (3, 7)), resize_flow(dense, (3, 7))
    up = torch.randn(2, 2, 7, 3, dtype=flow.dtype, device=DEVICE).mT
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(torch.autograd.grad(one, flow, up), torch.autograd.grad(other, dense, up.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype):
    flow = _flow(0, 2, 3, 5, dtype)
    out = resize_flow(flow, (7, 11))
    compute = torch.promote_types(dtype, torch.float32)
    # the ratios lengthen the vectors up to 7/3; one rounding on the way out
    atol = float(flow.abs().max()) * 7 / 3 * (torch.finfo(dtype).eps / 2 + 64 * torch.finfo(compute).eps)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), _plain(flow.double(), (7, 11)), rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    flow = _flow(0, 1, 13, 17, dtype).requires_grad_()
    wide = flow.detach().float().requires_grad_()
    one, other = resize_flow(flow, (5, 300)), resize_flow(wide, (5, 300))
    up = torch.randn_like(one)
    assert torch.equal(one, other.to(dtype))
    (found,), (want,) = torch.autograd.grad(one, flow, up), torch.autograd.grad(other, wide, up.float())
    assert torch.equal(found, want.to(dtype))


def test_compiles_without_a_graph_break():
    compiled = torch.compile(resize_flow, fullgraph=True, backend="aot_eager")
    results = []
    for resize in (compiled, resize_flow):
        flow = _flow(3, 2, 3, 5, torch.float32).requires_grad_()
        out = resize(flow, (7, 4))
        up = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
        results.append((out, *torch.autograd.grad(out, flow, up)))
    torch.testing.assert_close(*results, **SAME)


def test_an_empty_batch():
    flow = _flow(0, 0, 3, 4).requires_grad_()
    out = resize_flow(flow, (5, 2))
    assert out.shape == (0, 2, 5, 2)
    assert torch.autograd.grad(out, flow, torch.ones_like(out))[0].shape == flow.shape


@pytest.mark.parametrize(
    ("flow", "size", "kind", "text"),
    [
        (
            torch.zeros(2, 4, 6), (2, 2), ValueError,
            "resize_flow: `flow` must have shape (N, 2, H, W); got (2, 4, 6).",
        ),
        (
            torch.zeros(1, 3, 4, 6), (2, 2), ValueError,
            "resize_flow: `flow` must have shape (N, 2, H, W); got (1, 3, 4, 6).",
        ),
        (
            torch.zeros(1, 2, 4, 6), (3, 0), ValueError,
            "resize_flow: `size` must be (height, width), both at least 1; got (3, 0).",
        ),
        (
            torch.zeros(1, 2, 4, 6).long(), (2, 2), TypeError,
            "resize_flow: `flow` must be of dtype float; got torch.int64.",
        ),
    ],
)  # fmt: skip
def test_errors(flow, size, kind, text):
    with _raises(kind, text):
        resize_flow(flow, size)
