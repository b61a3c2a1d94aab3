import pytest
import torch
from kernel_cases import DEVICE, another, assert_agree, every_dtype, every_layout, far_apart, lay, run

from dastc.functional import flow_warp
from dastc.ops.flow_warp.op import flow_warp_backward_op, flow_warp_op


def _case(sizes, dtype=torch.float32, layout="contiguous", flow_dtype=torch.float32):
    n, c, h, w = sizes
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, h, w, generator=rng).to(dtype)
    # some points lie outside, and none on a pixel or on the border, where the derivative jumps
    flow = torch.randint(-2, 3, (n, 2, h, w), generator=rng) + 0.2 + 0.6 * torch.rand(n, 2, h, w, generator=rng)
    inputs = {"x": lay(x, layout), "flow": lay(flow.to(flow_dtype), layout)}
    return inputs, [torch.randn(n, c, h, w, generator=rng).to(dtype).to(DEVICE)]


def _blended(inputs, form, layout="contiguous"):
    """Add what is blended in; where it has no share, and where it has all, the other side is NaN."""
    rng = torch.Generator().manual_seed(1)
    x = inputs["x"]
    n, _, h, w = x.shape
    share = torch.rand(n, h, w, generator=rng).clamp(0.2, 0.8)
    kind = torch.randint(0, 3, (n, h, w), generator=rng)
    share = torch.where(kind == 2, 1.0, torch.where(kind == 1, share, 0.0))
    share = {"outside": None, "half": share.bfloat16(), "whole": share, "mask": share > 0.5}[form]
    other = torch.randn(x.shape, generator=rng).to(x.dtype)
    if share is not None:
        other = other.masked_fill((share == 0).unsqueeze(1), float("nan"))
    more = {"other": lay(other, another(layout)), "share": None if share is None else lay(share, layout)}
    return inputs | more


def _both(inputs, up):
    return (run(flow_warp, backend, inputs, up) for backend in ("triton", "torch"))


@pytest.fixture(params=[True, False], ids=["deterministic", "atomic"])
def _either_sum(request):
    torch.use_deterministic_algorithms(request.param, warn_only=True)


@every_dtype
@every_layout
@pytest.mark.usefixtures("_either_sum")
def test_equals_the_reference(dtype, layout):
    assert_agree(*_both(*_case((2, 3, 5, 7), dtype, layout)))


@every_layout
@pytest.mark.parametrize(
    ("form", "dtype"),
    [("outside", torch.float16), ("half", torch.float32), ("whole", torch.bfloat16), ("mask", torch.float32)],
)
def test_a_blend_equals_the_reference(form, dtype, layout):
    inputs, up = _case((2, 5, 3, 4), dtype, layout)
    found, want = _both(_blended(inputs, form, layout), up)
    assert all(grad.any() for grad in found[2:5])
    assert_agree(found, want)


@pytest.mark.usefixtures("_either_sum")
def test_a_blend_in_more_than_one_program():
    inputs, up = _case((1, 9, 11, 13))
    assert_agree(*_both(_blended(inputs, "whole"), up))


@pytest.mark.usefixtures("_either_sum")
def test_what_has_no_share_is_not_looked_at():
    inputs, (up,) = _case((1, 2, 5, 4))
    inputs["flow"].fill_(0.25)
    inputs["x"][0, :, 4] = float("nan")
    share = torch.zeros(1, 5, 4, device=DEVICE)
    share[0, 3:] = 1
    other = torch.randn_like(inputs["x"])
    inputs |= {"other": other, "share": share}
    found, want = _both(inputs, [up])
    assert torch.equal(found[0][:, :, 3:], other[:, :, 3:])
    assert all(x.isfinite().all() for x in found)
    assert_agree(found, want)


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1), (1, 2, 1, 7), (2, 1, 6, 1),
        (1, 2, 11, 13),  # more pixels than one program takes
        (1, 9, 2, 3),  # more channels than one program takes
        (0, 2, 3, 4), (2, 0, 3, 4),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("_either_sum")
def test_odd_sizes(sizes):
    inputs, up = _case(sizes)
    if not inputs["x"].numel():
        warped, valid = flow_warp(**inputs, backend="triton")
        assert (warped.shape, valid.shape) == (inputs["x"].shape, (sizes[0], *sizes[2:]))
        grads = flow_warp_backward_op(up[0], *inputs.values(), None, False, "triton")
        assert [x.shape for x in grads[:2]] == [x.shape for x in inputs.values()]
        return
    assert_agree(*_both(inputs, up))


def test_whole_pixels_are_moved_as_they_are():
    inputs, _ = _case((1, 2, 4, 5))
    flow = torch.zeros(1, 2, 4, 5, device=DEVICE)
    flow[:, 0], flow[:, 1] = 1, -2
    warped, valid = flow_warp(inputs["x"], flow, backend="triton")
    assert torch.equal(warped[..., 2:, :4], inputs["x"][..., :2, 1:])
    want = torch.zeros(4, 5, dtype=torch.bool, device=DEVICE)
    want[2:, :4] = True
    assert torch.equal(valid[0], want)


@pytest.mark.parametrize("flow_dtype", [torch.float64, torch.bfloat16])
def test_the_flow_has_a_dtype_of_its_own(flow_dtype):
    assert_agree(*_both(*_case((1, 2, 4, 5), flow_dtype=flow_dtype)), atol=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
@pytest.mark.parametrize("axis", [0, 1])
def test_flow_that_leads_nowhere(value, axis):
    inputs, up = _case((1, 2, 3, 4))
    inputs["flow"][0, axis, 1, 2] = value
    found, want = _both(inputs, up)
    assert not found[1][0, 1, 2]
    assert_agree(found, want)


def test_points_on_the_border_are_valid_and_still():
    x = torch.randn(1, 1, 3, 4, device=DEVICE)
    flow = torch.zeros(1, 2, 3, 4, device=DEVICE)
    flow[:, 0] = torch.tensor([0.0, -1, 1, 0])
    flow[:, 1] = torch.tensor([[0.0], [1], [0]])
    inputs, up = {"x": x, "flow": flow}, [torch.randn_like(x)]
    found, want = _both(inputs, up)
    assert found[1].all()
    assert_agree(found, want)


def test_the_deterministic_sum_repeats_whatever_the_order():
    x = torch.zeros(1, 1, 6, 50, device=DEVICE, requires_grad=True)
    rng = torch.Generator().manual_seed(0)
    up = (torch.randn(1, 1, 6, 50, generator=rng) * 10.0 ** torch.randint(-3, 4, (50,), generator=rng)).to(DEVICE)
    grads = []
    for step in (1, -1):  # everything lands on one pixel, once in this order and once in the other
        flow = torch.full((1, 2, 6, 50), -100.0, device=DEVICE)
        warped, _ = flow_warp(x, flow, backend="triton")
        ordered = up if step == 1 else up.flatten().flip(0).view_as(up)
        grads.append(torch.autograd.grad(warped, x, ordered)[0])
    assert torch.equal(*grads)
    torch.testing.assert_close(grads[0].sum(), up.double().sum().float())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.usefixtures("_either_sum")
def test_a_gradient_that_is_not_finite_is_not_hidden(value):
    inputs, (up,) = _case((1, 2, 3, 4))
    up[0, 1, 1, 1] = value
    to_x, *_ = flow_warp_backward_op(up, *inputs.values(), None, False, "triton")
    assert not to_x[0, 1].isfinite().all()
    assert to_x[0, 0].isfinite().all()


@pytest.mark.usefixtures("_either_sum")
def test_gradients_add_up_in_float32():
    x = torch.zeros(1, 1, 20, 20, dtype=torch.bfloat16, device=DEVICE)
    up, flow = torch.ones_like(x), torch.full((1, 2, 20, 20), -100.0, device=DEVICE)
    to_x, *_ = flow_warp_backward_op(up, x, flow, None, False, "triton")
    assert to_x[0, 0, 0, 0] == 400
    x, up = torch.zeros(1, 301, 1, 2, dtype=torch.bfloat16, device=DEVICE), torch.ones(1, 301, 1, 2, device=DEVICE)
    x[..., 1] = 1 + 2**-7
    flow = torch.tensor([0.5, -0.5], device=DEVICE).view(1, 1, 1, 2) * torch.tensor([1.0, 0], device=DEVICE).view(
        1, 2, 1, 1
    )
    _, to_flow, _ = flow_warp_backward_op(up.bfloat16(), x, flow, None, False, "triton")
    torch.testing.assert_close(to_flow[0, 0], torch.full((1, 2), 301 * (1 + 2**-7), device=DEVICE))


def test_offsets_beyond_int32_are_reached():
    x = far_apart(3, 2).view(1, 3, 1, 2).copy_(torch.arange(6.0).view(1, 3, 1, 2))
    flow = torch.tensor([1.0, -1], device=DEVICE).view(1, 1, 1, 2) * torch.tensor([1.0, 0], device=DEVICE).view(
        1, 2, 1, 1
    )
    warped, _ = flow_warp_op(x, flow, None, None, "triton")
    assert warped.tolist() == [[[[1, 0]], [[3, 2]], [[5, 4]]]]
    up, flow = torch.ones(1, 3, 1, 2, dtype=torch.float16, device=DEVICE), flow / 2
    found, want = (
        flow_warp_backward_op(up, v, flow, None, False, backend) for v, backend in ((x, "triton"), (x.clone(), "torch"))
    )
    torch.testing.assert_close(found, want)


def test_offsets_of_the_flow_and_the_gradient_beyond_int32_are_reached():
    x, far = torch.randn(1, 2, 1, 2, device=DEVICE), far_apart(2, 2).view(1, 2, 1, 2)
    far.copy_(torch.tensor([[0.25, -0.5], [0.0, 1.0]]).view(1, 2, 1, 2))
    up = torch.randn_like(x)
    for given in ((up, x, far), (far, x, up / 8)):
        copies = [v.clone() for v in given]
        found = flow_warp_backward_op(*given, None, False, "triton")
        assert_agree(found, flow_warp_backward_op(*copies, None, False, "torch"), atol=1e-3)
    assert_agree(flow_warp_op(x, far, None, None, "triton"), flow_warp_op(x, far.clone(), None, None, "torch"))


def test_offsets_beyond_int32_are_reached_in_a_blend():
    x, flow = torch.randn(1, 3, 1, 2, dtype=torch.float16, device=DEVICE), torch.zeros(1, 2, 1, 2, device=DEVICE)
    far = far_apart(3, 2).view(1, 3, 1, 2).copy_(torch.arange(6.0).view(1, 3, 1, 2))
    share = torch.tensor([[[0.0, 0.25]]], device=DEVICE)
    found, want = (
        flow_warp_op(x, flow, other, share, backend) for other, backend in ((far, "triton"), (far.clone(), "torch"))
    )
    assert_agree(found, want)
    rows = far_apart(2, 2).view(1, 2, 2).copy_(torch.tensor([[[0.0, 1], [0.5, 0.75]]]))
    x, flow = x[:, :, :, :1].expand(1, 3, 2, 2), torch.zeros(1, 2, 2, 2, device=DEVICE)
    found, want = (
        flow_warp_op(x, flow, x + 1, given, backend) for given, backend in ((rows, "triton"), (rows.clone(), "torch"))
    )
    assert_agree(found, want)


def test_registration_is_sound():
    inputs, (up,) = _case((1, 2, 3, 4))
    x, flow = inputs.values()
    quick = ("test_schema", "test_faketensor")
    torch.library.opcheck(flow_warp_backward_op, (up, x, flow, None, False, "triton"), test_utils=quick)
    torch.library.opcheck(flow_warp_op, (x.requires_grad_(), flow.requires_grad_(), None, None, "triton"))


def test_compiles_without_a_graph_break():
    inputs, up = _case((1, 2, 3, 4))
    compiled = torch.compile(flow_warp, fullgraph=True, backend="aot_eager")
    found, want = (run(warp, "triton", inputs, up) for warp in (compiled, flow_warp))
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_the_registration_of_a_blend_is_sound():
    inputs, (up,) = _case((1, 2, 3, 4))
    x, flow, other, share = _blended(inputs, "mask").values()
    quick = ("test_schema", "test_faketensor")
    torch.library.opcheck(flow_warp_backward_op, (up, x, flow, share, True, "triton"), test_utils=quick)
    leaves = [v.nan_to_num().requires_grad_() for v in (x, flow, other)]
    torch.library.opcheck(flow_warp_op, (*leaves, share.float(), "triton"))
