import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.functional import flow_warp
from dastc.ops.flow_warp.op import flow_warp_backward_op, flow_warp_op

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIZES = st.lists(st.integers(1, 9), min_size=4, max_size=4, unique=True)  # N, C, H, W: pairwise different
SEEDS = st.integers(0, 2**31 - 1)


def _case(seed, sizes, dtype=torch.float64, reach=3.0):
    n, c, h, w = sizes
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, h, w, generator=rng, dtype=torch.float64)
    flow = torch.randn(n, 2, h, w, generator=rng, dtype=torch.float64) * reach
    return x.to(DEVICE, dtype), flow.to(DEVICE, dtype)


def _sample_points(flow):
    h, w = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(w, device=flow.device)
    y = flow[:, 1] + torch.arange(h, device=flow.device)[:, None]
    return x, y


def _plain(x, flow):
    """Gather the four neighbours, in pixels, without any normalised coordinate."""
    (h, w), (px, py) = x.shape[-2:], _sample_points(flow)
    inside = (px >= 0) & (px <= w - 1) & (py >= 0) & (py <= h - 1)
    px, py = px.clamp(0, w - 1), py.clamp(0, h - 1)
    left, top = px.detach().floor(), py.detach().floor()

    def pick(column, row):
        index = row.clamp(max=h - 1).long() * w + column.clamp(max=w - 1).long()
        return x.flatten(2).gather(2, index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)).view(x.shape)

    right, below = (px - left).unsqueeze(1), (py - top).unsqueeze(1)
    upper = pick(left, top) * (1 - right) + pick(left + 1, top) * right
    lower = pick(left, top + 1) * (1 - right) + pick(left + 1, top + 1) * right
    return upper * (1 - below) + lower * below, inside


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    # the picture is x + 10 y, on which bilinear interpolation is exact
    x = torch.tensor([[0.0, 1, 2, 3], [10, 11, 12, 13], [20, 21, 22, 23]], device=DEVICE).view(1, 1, 3, 4)
    flow = torch.zeros(1, 2, 3, 4, device=DEVICE)
    flow[0, :, 0, 0] = torch.tensor([0.5, 0.25])  # reads (0.5, 0.25)
    flow[0, :, 1, 2] = torch.tensor([-2.0, 1.0])  # reads (0, 2), the corner itself
    flow[0, :, 2, 3] = torch.tensor([0.5, 0.0])  # half a pixel beyond the right border
    flow[0, :, 0, 1] = torch.tensor([1.0, -3.0])  # above the picture
    warped, valid = flow_warp(x, flow)
    want = x[0, 0].clone()
    want[0, 0], want[1, 2], want[2, 3], want[0, 1] = 3.0, 20.0, 23.0, 2.0
    torch.testing.assert_close(warped[0, 0], want)
    seen = torch.ones(3, 4, dtype=torch.bool, device=DEVICE)
    seen[2, 3] = seen[0, 1] = False
    assert torch.equal(valid[0], seen)


@pytest.mark.parametrize(("axis", "last"), [(0, 4), (1, 2)])
def test_the_border_itself_is_inside_and_a_step_beyond_is_not(axis, last):
    x = torch.zeros(1, 1, 3, 5, device=DEVICE)
    for target, inside in ((0.0, True), (-0.001, False), (float(last), True), (last + 0.001, False)):
        flow = torch.zeros(1, 2, 3, 5, device=DEVICE)
        flow[:, axis, 1, 1] = target - 1
        assert bool(flow_warp(x, flow)[1][0, 1, 1]) is inside


@given(SEEDS, SIZES)
def test_equals_gathering_the_neighbours(seed, sizes):
    x, flow = _case(seed, sizes)
    warped, valid = flow_warp(x, flow)
    want, inside = _plain(x, flow)
    torch.testing.assert_close(warped, want)
    assert torch.equal(valid, inside)


@given(SEEDS, SIZES)
def test_means_what_grid_sample_means(seed, sizes):
    x, flow = _case(seed, sizes)
    (h, w), (px, py) = x.shape[-2:], _sample_points(flow)
    # with one column or row, every coordinate of grid_sample means it
    grid = torch.stack((2 * px / (w - 1) - 1 if w > 1 else px, 2 * py / (h - 1) - 1 if h > 1 else py), dim=-1)
    want = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)
    torch.testing.assert_close(flow_warp(x, flow)[0], want)


@given(SEEDS, SIZES)
def test_gradients_equal_those_of_gathering(seed, sizes):
    x, flow = (v.requires_grad_() for v in _case(seed, sizes))
    up = torch.randn_like(x)
    found = torch.autograd.grad(flow_warp(x, flow)[0], (x, flow), up)
    want = torch.autograd.grad(_plain(x, flow)[0], (x, flow), up)
    torch.testing.assert_close(found, want)


@given(SEEDS, SIZES)
def test_zero_flow_is_the_identity(seed, sizes):
    x, flow = _case(seed, sizes, torch.float32)
    warped, valid = flow_warp(x, flow * 0)
    torch.testing.assert_close(warped, x, rtol=1e-5, atol=1e-5)
    assert valid.all()


@given(SEEDS, SIZES, st.integers(-4, 4), st.integers(-4, 4))
def test_whole_flow_is_a_shift_that_repeats_the_border(seed, sizes, dx, dy):
    x, flow = _case(seed, sizes)
    h, w = sizes[2:]
    flow[:, 0], flow[:, 1] = dx, dy
    columns, rows = torch.arange(w, device=DEVICE) + dx, torch.arange(h, device=DEVICE) + dy
    warped, valid = flow_warp(x, flow)
    torch.testing.assert_close(warped, x[:, :, rows.clamp(0, h - 1)][..., columns.clamp(0, w - 1)])
    inside = ((rows >= 0) & (rows < h))[:, None] & ((columns >= 0) & (columns < w))
    assert torch.equal(valid, inside.expand_as(valid))


@given(SEEDS, SIZES)
def test_a_batch_equals_its_samples(seed, sizes):
    x, flow = _case(seed, sizes)
    warped, valid = flow_warp(x, flow)
    for i in range(len(x)):
        one, seen = flow_warp(x[i : i + 1], flow[i : i + 1])
        torch.testing.assert_close(warped[i : i + 1], one)
        assert torch.equal(valid[i : i + 1], seen)


@given(SEEDS, SIZES)
def test_transposing_the_picture_exchanges_dx_and_dy(seed, sizes):
    x, flow = _case(seed, sizes)
    warped, valid = flow_warp(x, flow)
    other, seen = flow_warp(x.mT, flow.flip(1).mT)
    torch.testing.assert_close(other.mT, warped)
    assert torch.equal(seen.mT, valid)


def test_gradcheck():
    x, flow = _case(0, (2, 3, 4, 5))
    flow = (flow * 0.5).floor() + 0.2 + 0.6 * torch.rand_like(flow)  # away from the kinks at whole pixels
    assert gradcheck(lambda a, b: flow_warp(a, b)[0], (x.requires_grad_(), flow.requires_grad_()))


def _share(seed, sizes, form):
    rng = torch.Generator().manual_seed(seed + 1)
    n, _, h, w = sizes
    share = torch.rand(n, h, w, generator=rng, dtype=torch.float64)
    whole = torch.ones_like(share)
    share = {"float": share, "mask": share < 0.5, "none": whole * 0, "all": whole, "outside": None}[form]
    return share if share is None else share.to(DEVICE)


SHARES = st.sampled_from(["float", "mask", "none", "all", "outside"])


@given(SEEDS, SIZES, SHARES)
def test_a_blend_equals_blending_afterwards(seed, sizes, form):
    x, flow = (v.requires_grad_() for v in _case(seed, sizes))
    other = torch.randn_like(x, requires_grad=True)
    share = _share(seed, sizes, form)
    found, seen = flow_warp(x, flow, other=other, share=share)
    warped, valid = flow_warp(x, flow)
    part = (~valid if share is None else share).to(x.dtype).unsqueeze(1)
    want = warped * (1 - part) + other * part
    torch.testing.assert_close(found, want)
    assert torch.equal(seen, valid)
    up, leaves = torch.randn_like(x), (x, flow, other)
    torch.testing.assert_close(torch.autograd.grad(found, leaves, up), torch.autograd.grad(want, leaves, up))


def test_known_values_of_a_blend():
    x = torch.arange(4.0, device=DEVICE).view(1, 1, 1, 4)
    flow = torch.zeros(1, 2, 1, 4, device=DEVICE)
    flow[:, 0] = -1
    other, share = torch.full_like(x, 10), torch.tensor([[[0.0, 1, 0.25, 0]]], device=DEVICE)
    for given_share, want in ((None, [10, 0, 1, 2]), (share, [0, 10, 3.25, 2]), (share > 0, [0, 10, 10, 2])):
        found, _ = flow_warp(x, flow, other=other, share=given_share)
        torch.testing.assert_close(found.flatten(), torch.tensor(want, dtype=torch.float32, device=DEVICE))


@pytest.mark.parametrize("form", ["float", "mask"])
def test_what_has_no_share_is_not_looked_at(form):
    x = torch.zeros(1, 1, 1, 5, device=DEVICE)
    other, flow = x.clone(), torch.zeros(1, 2, 1, 5, device=DEVICE)
    x[..., 4], other[..., 0] = float("nan"), float("inf")
    share = torch.tensor([[[0.0, 0, 0, 1, 1]]], device=DEVICE)
    leaves = [v.requires_grad_() for v in (x, flow, other)]
    found, _ = flow_warp(leaves[0], leaves[1], other=leaves[2], share=share if form == "float" else share.bool())
    assert torch.equal(found, torch.zeros_like(found))
    to_x, to_flow, to_other = torch.autograd.grad(found, leaves, torch.ones_like(found))
    torch.testing.assert_close(to_x.flatten(), torch.tensor([1.0, 1, 1, 0, 0], device=DEVICE))
    assert to_other.flatten().tolist() == [0, 0, 0, 1, 1]
    assert torch.equal(to_flow[..., 3:], torch.zeros_like(to_flow[..., 3:]))


def test_the_share_is_a_constant():
    x, flow = _case(0, (1, 2, 3, 4))
    share = torch.rand(1, 3, 4, dtype=torch.float64, device=DEVICE, requires_grad=True)
    assert not flow_warp(x, flow, other=x, share=share)[0].requires_grad


def test_gradcheck_of_a_blend():
    x, flow = _case(0, (2, 3, 4, 5))
    flow = (flow * 0.5).floor() + 0.2 + 0.6 * torch.rand_like(flow)
    leaves = [v.requires_grad_() for v in (x, flow, torch.randn_like(x))]
    share = _share(0, (2, 3, 4, 5), "float")
    assert gradcheck(lambda a, b, c: flow_warp(a, b, other=c, share=share)[0], leaves)


def test_a_blend_compiles_without_a_graph_break():
    compiled = torch.compile(flow_warp, fullgraph=True, backend="aot_eager")
    x, flow = _case(3, (2, 3, 4, 5), torch.float32)
    for share in (None, _share(3, (2, 3, 4, 5), "mask")):
        found, want = (warp(x, flow, other=x.flip(0), share=share) for warp in (compiled, flow_warp))
        torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_a_second_derivative_is_refused_rather_than_wrong():
    x, flow = (v.requires_grad_() for v in _case(0, (1, 2, 3, 4)))
    (to_x,) = torch.autograd.grad(flow_warp(x, flow)[0], x, torch.randn_like(x).requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        to_x.square().sum().backward()


def _layouts():
    x, flow = _case(0, (2, 3, 4, 5))
    big, wide = _case(1, (3, 4, 7, 6))
    return {
        "contiguous": (x, flow),
        "channels_last": (x.to(memory_format=torch.channels_last), flow.to(memory_format=torch.channels_last)),
        "sliced": (big[1:, :3, 2:6, 1:], wide[1:, :, 2:6, 1:]),
        "expanded": (x[:1].expand(2, -1, -1, -1), flow[:, :, :1, :1].expand(-1, -1, 4, 5)),
        "empty": (x[:0], flow[:0]),
        "half": (x.half(), flow.float()),
    }


@pytest.mark.parametrize("layout", _layouts())
def test_registration_is_sound(layout):
    x, flow = (v.detach().requires_grad_() for v in _layouts()[layout])
    torch.library.opcheck(flow_warp_op, (x, flow, None, None))
    up = torch.randn(x.mT.shape, dtype=x.dtype, device=DEVICE).mT
    quick = ("test_schema", "test_faketensor")
    torch.library.opcheck(flow_warp_backward_op, (up, x.detach(), flow.detach(), None, False), test_utils=quick)
    other, share = torch.randn_like(up).requires_grad_(), torch.rand(len(x), *x.shape[2:], device=DEVICE)
    torch.library.opcheck(flow_warp_op, (x, flow, other, share))
    torch.library.opcheck(flow_warp_backward_op, (up, x.detach(), flow.detach(), share, True), test_utils=quick)


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded"])
def test_strides_do_not_matter(layout):
    x, flow = (v.detach().requires_grad_() for v in _layouts()[layout])
    up = torch.randn(x.mT.shape, dtype=x.dtype, device=DEVICE).mT
    dense = [v.detach().contiguous().requires_grad_() for v in (x, flow)]
    one, other = flow_warp(x, flow)[0], flow_warp(*dense)[0]
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(
        torch.autograd.grad(one, (x, flow), up), torch.autograd.grad(other, dense, up.contiguous())
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype):
    x, flow = _case(0, (2, 3, 5, 41), dtype)
    warped, _ = flow_warp(x, flow)
    want, _ = _plain(x.double(), flow.double())
    compute = torch.promote_types(dtype, torch.float32)
    # one rounding on the way out; before it the coordinates are W long and the picture changes by max|x| per pixel
    atol = float(x.abs().max()) * (torch.finfo(dtype).eps / 2 + 8 * 41 * torch.finfo(compute).eps)
    assert warped.dtype == dtype
    torch.testing.assert_close(warped.double(), want, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    # half precision cannot count 600 columns
    x, flow = (v.requires_grad_() for v in _case(0, (1, 2, 3, 600), dtype))
    wide = [v.detach().float().requires_grad_() for v in (x, flow)]
    (one, seen), (other, inside) = flow_warp(x, flow), flow_warp(*wide)
    up = torch.randn_like(one)
    assert torch.equal(one, other.to(dtype))
    assert torch.equal(seen, inside)
    grads = torch.autograd.grad(one, (x, flow), up)
    for found, want in zip(grads, torch.autograd.grad(other, wide, up.float()), strict=True):
        assert torch.equal(found, want.to(dtype))


def test_compiles_without_a_graph_break():
    compiled = torch.compile(flow_warp, fullgraph=True, backend="aot_eager")
    results = []
    for warp in (compiled, flow_warp):
        x, flow = (v.requires_grad_() for v in _case(3, (2, 3, 4, 5), torch.float32))
        warped, valid = warp(x, flow)
        up = torch.randn(warped.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
        results.append((warped, valid, *torch.autograd.grad(warped, (x, flow), up)))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(0, 2, 3, 4), (2, 0, 3, 4), (1, 2, 1, 5), (1, 2, 5, 1), (2, 1, 1, 1)])
def test_sizes_at_the_edge(sizes):
    x, flow = (v.requires_grad_() for v in _case(0, sizes))
    warped, valid = flow_warp(x, flow)
    assert warped.shape == x.shape
    assert valid.shape == (sizes[0], *sizes[2:])
    if x.numel():
        torch.testing.assert_close(warped, _plain(x, flow)[0])
    to_x, to_flow = torch.autograd.grad(warped, (x, flow), torch.ones_like(warped))
    assert torch.isfinite(to_x).all()
    assert torch.isfinite(to_flow).all()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_flow_that_leads_nowhere_is_not_valid_and_reads_no_foreign_memory(value, axis):
    x, flow = _case(0, (1, 2, 3, 4), torch.float32)
    flow[0, axis, 1, 2] = value
    warped, valid = flow_warp(x, flow)
    assert not valid[0, 1, 2]
    low, high = x.amin(dim=(0, 2, 3)), x.amax(dim=(0, 2, 3))
    assert ((warped[0, :, 1, 2] >= low) & (warped[0, :, 1, 2] <= high)).all()
    flow[0, axis, 1, 2] = 0
    others = torch.ones(3, 4, dtype=torch.bool, device=DEVICE)
    others[1, 2] = False
    assert torch.equal(warped[..., others], flow_warp(x, flow)[0][..., others])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_flow_that_leads_nowhere_has_no_gradient_and_spoils_no_other(value):
    x, flow = (v.requires_grad_() for v in _case(0, (1, 2, 3, 4), torch.float32))
    with torch.no_grad():
        flow[0, :, 1, 2] = value
    up = torch.ones_like(x)
    to_x, to_flow = torch.autograd.grad(flow_warp(x, flow)[0], (x, flow), up)
    assert torch.equal(to_flow[0, :, 1, 2], torch.zeros_like(to_flow[0, :, 1, 2]))
    torch.testing.assert_close(to_x.sum((2, 3)), up.sum((2, 3)))


_X, _FLOW = torch.zeros(1, 2, 4, 6), torch.zeros(1, 2, 4, 6)


@pytest.mark.parametrize(
    ("x", "flow", "kind", "text"),
    [
        (_X[0], _FLOW, ValueError, "flow_warp: `x` must have shape (N, C, H, W); got (2, 4, 6)."),
        (
            _X, _FLOW[..., 1:], ValueError,
            "flow_warp: `flow` must have shape (N=1, 2, H=4, W=6); got (1, 2, 4, 5). Resize it with resize_flow.",
        ),
        (
            _X, torch.zeros(1, 3, 4, 6), ValueError,
            "flow_warp: `flow` must have shape (N=1, 2, H=4, W=6); got (1, 3, 4, 6). Resize it with resize_flow.",
        ),
        (_X.long(), _FLOW, TypeError, "flow_warp: `x` must be of dtype float; got torch.int64."),
        (_X, _FLOW.int(), TypeError, "flow_warp: `flow` must be of dtype float; got torch.int32."),
        ([0.0], _FLOW, TypeError, "flow_warp: `x` must be a tensor; got list."),
        (
            _X, _FLOW.to("meta"), ValueError,
            "flow_warp: all tensors must lie on one device; got `x` on cpu, `flow` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(x, flow, kind, text):
    with _raises(kind, text):
        flow_warp(x, flow)


_SHARE = torch.zeros(1, 4, 6)


@pytest.mark.parametrize(
    ("other", "share", "kind", "text"),
    [
        (_X[:, 1:], None, ValueError, "`other` must have shape (N=1, C=2, H=4, W=6); got (1, 1, 4, 6)."),
        (_X.double(), None, TypeError, "`other` must have the dtype of `x`, torch.float32; got torch.float64."),
        (None, _SHARE, ValueError, "`share` must come with `other`; got other=None."),
        (_X, _SHARE[:, 1:], ValueError, "`share` must have shape (N=1, H=4, W=6); got (1, 3, 6)."),
        (_X, _SHARE.long(), TypeError, "`share` must be of dtype float; got torch.int64."),
        (
            _X.to("meta"), None, ValueError,
            "all tensors must lie on one device; got `x` on cpu, `flow` on cpu, `other` on meta.",
        ),
        (
            _X, _SHARE.to("meta"), ValueError,
            "all tensors must lie on one device; got `x` on cpu, `flow` on cpu, `other` on cpu, `share` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors_of_a_blend(other, share, kind, text):
    with _raises(kind, f"flow_warp: {text}"):
        flow_warp(_X, _FLOW, other=other, share=share)


@pytest.mark.parametrize("size", [(5, 1), (1, 5), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 3e38, -3e38])
def test_endless_flow_on_a_map_of_one_row_or_column_samples_the_border(size, dtype, value):
    x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(0), dtype=dtype).to(DEVICE).requires_grad_()
    flow = torch.full((1, 2, *size), value, dtype=dtype, device=DEVICE)
    warped, valid = flow_warp(x, flow)
    assert not valid.any()
    assert torch.equal(warped, x[..., -1:, -1:].expand_as(x) if value > 0 else x[..., :1, :1].expand_as(x))
    (to_x,) = torch.autograd.grad(warped.sum(), x)
    torch.testing.assert_close(to_x.sum(), x.new_tensor(x.numel()))


def test_whole_flow_copies_to_the_bit_where_sampling_by_a_grid_rounds():
    x = torch.randn(1, 3, 128, 1024, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    flow = torch.zeros(1, 2, 128, 1024, device=DEVICE)
    assert torch.equal(flow_warp(x, flow)[0], x)
    flow[:, 0] = 7
    assert torch.equal(flow_warp(x, flow)[0][..., :-7], x[..., 7:])
    flow[:, :, :, ::2] += 0.5  # others are interpolated as they were
    half = flow_warp(x, flow)[0]
    assert torch.equal(half[..., 1:-7:2], x[..., 8::2])
    four = (x[..., 7:-1:2] + x[..., 8::2]).unfold(-2, 2, 1).sum(-1) / 4
    torch.testing.assert_close(half[..., :-1, :-8:2], four, atol=1e-3, rtol=0)
