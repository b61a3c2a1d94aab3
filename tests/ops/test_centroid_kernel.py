import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.ops.centroid_kernel import centroid_kernel
from dastc.ops.centroid_kernel.op import centroid_kernel_op

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=2, unique=True)  # K, D
FACTORS, COUNTS = st.sampled_from([1.5, 2.0, 3.0]), st.integers(1, 6)


def _case(seed, sizes, dtype=torch.float64):
    k, d = sizes
    rng = torch.Generator().manual_seed(seed)
    source, target = torch.randn(2, k, d, generator=rng, dtype=torch.float64)
    present = torch.rand(k, generator=rng) < 0.7
    return source.to(DEVICE, dtype), target.to(DEVICE, dtype), present.to(DEVICE)


def _plain(source, target, present, factor=2.0, count=5):
    """Pair by pair over what is present; the bandwidth is a constant."""
    k = len(source)
    rows, here = [*source, *target], present.tolist() * 2
    zero = source.new_zeros(()) * (source.sum() + target.sum())
    distance = [[(a - b).square().sum() for b in rows] for a in rows]
    different = [distance[i][j].detach() for i in range(2 * k) for j in range(2 * k) if i != j and here[i] and here[j]]
    mean = sum(different) / max(len(different), 1)
    widths = [mean * factor ** (m - count // 2) for m in range(count)]
    return torch.stack([
        torch.stack([
            sum(torch.exp(-distance[i][j] / width) for width in widths) if here[i] and here[j] else zero
            for j in range(2 * k)
        ])
        for i in range(2 * k)
    ])  # fmt: skip


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    # squared distances 9, 16 and 25 between three rows, and a fourth on the first: mean (2*9 + 2*16 + 25) / 6 = 12.5
    source = torch.tensor([[0.0, 0.0], [3.0, 0.0]], device=DEVICE)
    target = torch.tensor([[0.0, 4.0], [0.0, 0.0]], device=DEVICE)
    kernel = centroid_kernel(source, target, torch.tensor([True, True], device=DEVICE), factor=3.0, count=2)
    widths = [12.5 / 3, 12.5]
    distance = [[0, 9, 16, 0], [9, 0, 25, 9], [16, 25, 0, 16], [0, 9, 16, 0]]
    want = [[sum(math.exp(-d / w) for w in widths) for d in row] for row in distance]
    torch.testing.assert_close(kernel, torch.tensor(want, device=DEVICE))


def test_known_bandwidths():
    # one class: its distance is the mean; five bandwidths at 1/4, 1/2, 1, 2 and 4 times that
    x = torch.zeros(1, 3, device=DEVICE)
    kernel = centroid_kernel(x, x + 7, torch.tensor([True], device=DEVICE))
    assert float(kernel[0, 1]) == pytest.approx(sum(math.exp(-s) for s in (4, 2, 1, 0.5, 0.25)))


@given(SEEDS, SIZES, FACTORS, COUNTS)
def test_equals_comparing_pair_by_pair(seed, sizes, factor, count):
    source, target, present = _case(seed, sizes)
    found = centroid_kernel(source, target, present, factor=factor, count=count)
    torch.testing.assert_close(found, _plain(source, target, present, factor, count))


@given(SEEDS, SIZES, FACTORS, COUNTS)
def test_gradients_equal_those_of_comparing_pair_by_pair(seed, sizes, factor, count):
    source, target, present = _case(seed, sizes)
    inputs = source.requires_grad_(), target.requires_grad_()
    found = centroid_kernel(source, target, present, factor=factor, count=count)
    want = _plain(source, target, present, factor, count)
    up = torch.randn_like(found)  # not symmetric
    torch.testing.assert_close(torch.autograd.grad(found, inputs, up), torch.autograd.grad(want, inputs, up))


@given(SEEDS, SIZES)
def test_second_derivatives_equal_those_of_comparing_pair_by_pair(seed, sizes):
    source, target, present = _case(seed, sizes)
    present[0] = True
    inputs = source.requires_grad_(), target.requires_grad_()
    results = []
    for run in (centroid_kernel, _plain):
        kernel = run(source, target, present)
        rng = torch.Generator().manual_seed(seed)
        up, *directions = (
            torch.randn(x.shape, generator=rng, dtype=torch.float64).to(DEVICE) for x in (kernel, *inputs)
        )
        grads = torch.autograd.grad(kernel, inputs, up, create_graph=True)
        second = torch.autograd.grad(grads, inputs, directions, materialize_grads=True, allow_unused=True)
        results.append(second)
    torch.testing.assert_close(*results)


@given(SEEDS, SIZES, COUNTS)
def test_symmetric_in_range_and_full_on_the_diagonal(seed, sizes, count):
    source, target, present = _case(seed, sizes)
    kernel = centroid_kernel(source, target, present, count=count)
    both = present.repeat(2)
    torch.testing.assert_close(kernel, kernel.T, rtol=0, atol=1e-12)
    assert torch.equal(kernel.diagonal(), both * float(count) + torch.zeros_like(kernel.diagonal()))
    assert ((kernel >= 0) & (kernel <= count)).all()
    assert not kernel[~both].any()
    assert not kernel[:, ~both].any()


@given(SEEDS, SIZES)
def test_permuting_the_classes_permutes_rows_and_columns(seed, sizes):
    source, target, present = _case(seed, sizes)
    order = torch.randperm(sizes[0], generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    both = torch.cat((order, order + sizes[0]))
    found = centroid_kernel(source[order], target[order], present[order])
    torch.testing.assert_close(found, centroid_kernel(source, target, present)[both][:, both])


@given(SEEDS, SIZES)
def test_exchanging_the_domains_exchanges_the_blocks(seed, sizes):
    source, target, present = _case(seed, sizes)
    k = sizes[0]
    found = centroid_kernel(target, source, present).roll((k, k), (0, 1))
    torch.testing.assert_close(found, centroid_kernel(source, target, present))


@given(SEEDS, SIZES)
def test_masking_equals_removing(seed, sizes):
    source, target, present = _case(seed, sizes)
    present[0] = True
    left = centroid_kernel(source[present], target[present], present[present])
    both = present.repeat(2)
    torch.testing.assert_close(centroid_kernel(source, target, present)[both][:, both], left)


@given(SEEDS, SIZES, st.floats(0.01, 100))
def test_neither_scale_nor_place_matters(seed, sizes, scale):
    source, target, present = _case(seed, sizes)
    shift = torch.randn(sizes[1], dtype=torch.float64, device=DEVICE)
    found = centroid_kernel(source * scale + shift, target * scale + shift, present)
    torch.testing.assert_close(found, centroid_kernel(source, target, present), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_absent_rows_are_never_read(value):
    source, target, _ = _case(0, (5, 7), torch.float32)
    present = torch.tensor([False, True, True, False, True], device=DEVICE)
    up = torch.randn(10, 10, device=DEVICE)
    results = []
    for junk in (0.0, value):
        rows = [x.masked_fill(~present[:, None], junk).requires_grad_() for x in (source, target)]
        kernel = centroid_kernel(*rows, present)
        results.append((kernel, *torch.autograd.grad(kernel, rows, up)))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    for grad in results[1][1:]:
        assert not grad[~present].any()
        assert grad[present].any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rows", [1, 2, 3, 19])
def test_equal_rows_have_a_full_kernel_and_no_gradient(rows, dtype):
    x = (torch.randn(1, 32, dtype=dtype, device=DEVICE) * 30).expand(rows, 32)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    kernel = centroid_kernel(*inputs, torch.ones(rows, dtype=torch.bool, device=DEVICE))
    assert torch.equal(kernel, torch.full_like(kernel, 5))
    for grad in torch.autograd.grad(kernel, inputs, torch.randn_like(kernel)):
        assert not grad.any()


def test_what_all_rows_share_does_not_cost_precision():
    # deep features behind a ReLU: a large mean and small differences
    source, target, present = _case(0, (6, 64))
    source, target = 100 + source / 50, 100 + target / 50
    narrow = [x.float().requires_grad_() for x in (source, target)]
    wide = [x.detach().double().requires_grad_() for x in narrow]
    up = torch.randn(12, 12, dtype=torch.float64, device=DEVICE)
    found, want = centroid_kernel(*narrow, present), centroid_kernel(*wide, present)
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-5)
    exact = torch.autograd.grad(want, wide, up)
    for grad, right in zip(torch.autograd.grad(found, narrow, up.float()), exact, strict=True):
        torch.testing.assert_close(grad.double(), right, rtol=0, atol=1e-5 * float(right.abs().max()))


def test_nothing_present_is_exactly_zero_and_connected():
    source, target, present = _case(0, (4, 3))
    inputs = source.requires_grad_(), target.requires_grad_()
    kernel = centroid_kernel(*inputs, torch.zeros_like(present))
    assert torch.equal(kernel, torch.zeros_like(kernel))
    for grad in torch.autograd.grad(kernel, inputs, torch.randn_like(kernel)):
        assert torch.equal(grad, torch.zeros_like(grad))


def _layouts():
    source, target, present = _case(0, (5, 7))
    big = _case(1, (10, 9))
    return {
        "contiguous": (source, target, present),
        "transposed": (source.T.contiguous().T, target, present),
        "sliced": (big[0][::2, 1:8], big[1][5:, :7], big[2][::2]),
        "expanded": (source[:1].expand(5, -1), target, present[:1].expand(5)),
        "one class": (source[:1], target[:1], present[:1]),
        "half": (source.half(), target.bfloat16(), present),
    }


@pytest.mark.parametrize("layout", _layouts())
def test_registration_is_sound(layout):
    source, target, present = _layouts()[layout]
    inputs = source.detach().requires_grad_(), target.detach().requires_grad_()
    torch.library.opcheck(centroid_kernel_op, (*inputs, present, 2.0, 5))


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded"])
def test_strides_do_not_matter(layout):
    source, target, present = _layouts()[layout]
    inputs = source.detach().requires_grad_(), target.detach().requires_grad_()
    dense = [x.detach().contiguous().requires_grad_() for x in inputs]
    found, want = centroid_kernel(*inputs, present), centroid_kernel(*dense, present.contiguous())
    up = torch.randn_like(found).T
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, up), torch.autograd.grad(want, dense, up.contiguous())
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype):
    source, target, present = _case(0, (5, 7), dtype)
    inputs = source.requires_grad_(), target.requires_grad_()
    wide = [x.detach().double().requires_grad_() for x in inputs]
    found, want = centroid_kernel(*inputs, present), _plain(*wide, present)
    compute = torch.promote_types(dtype, torch.float32)
    assert found.dtype == compute
    # a kernel sums 5 exponentials of distances that add 7 squares
    torch.testing.assert_close(found.double(), want, rtol=0, atol=5 * 7 * 8 * torch.finfo(compute).eps)
    up = torch.randn_like(found)
    grads, exact = torch.autograd.grad(found, inputs, up), torch.autograd.grad(want, wide, up.double())
    assert [g.dtype for g in grads] == [dtype, dtype]
    torch.testing.assert_close(
        [g.double() for g in grads], list(exact), rtol=torch.finfo(dtype).eps, atol=500 * torch.finfo(compute).eps
    )


def test_autocast_does_not_reach_inside():
    source, target, present = _case(0, (5, 7), torch.float32)
    inputs = source.requires_grad_(), target.requires_grad_()
    want = centroid_kernel(*inputs, present)
    up = torch.randn_like(want)
    exact = torch.autograd.grad(want, inputs, up)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = centroid_kernel(*inputs, present)
        grads = torch.autograd.grad(found, inputs, up)
    torch.testing.assert_close((found, *grads), (want, *exact), rtol=0, atol=0)


def test_compiles_without_a_graph_break():
    compiled = torch.compile(centroid_kernel, fullgraph=True, backend="aot_eager")
    source, target, _ = _case(0, (5, 7), torch.float32)
    inputs = source.requires_grad_(), target.requires_grad_()
    up = torch.randn(10, 10, device=DEVICE)
    for missing in (0, 1, 5):
        present = torch.arange(5, device=DEVICE) >= missing
        results = []
        for run in (compiled, centroid_kernel):
            kernel = run(*inputs, present)
            results.append((kernel, *torch.autograd.grad(kernel, inputs, up)))
        torch.testing.assert_close(*results, rtol=0, atol=0)


_S, _P = torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool)


@pytest.mark.parametrize(
    ("source", "target", "present", "options", "kind", "text"),
    [
        (_S[0], _S, _P, {}, ValueError, "`source` must have shape (K, D); got (3,)."),
        (_S, _S[1:], _P, {}, ValueError, "`target` must have shape (K=4, D=3); got (3, 3)."),
        (_S, _S[:, 1:], _P, {}, ValueError, "`target` must have shape (K=4, D=3); got (4, 2)."),
        (_S, _S, _P[1:], {}, ValueError, "`present` must have shape (K=4); got (3,)."),
        (_S.long(), _S, _P, {}, TypeError, "`source` must be of dtype float; got torch.int64."),
        (_S, _S.int(), _P, {}, TypeError, "`target` must be of dtype float; got torch.int32."),
        (_S, _S, _P.float(), {}, TypeError, "`present` must be of dtype bool; got torch.float32."),
        (_S, _S, _P, {"count": 0}, ValueError, "`count` must be at least 1; got 0."),
        (_S, _S, _P, {"factor": 1.0}, ValueError, "`factor` must be greater than 1; got 1.0."),
        (_S, _S, _P, {"factor": float("nan")}, ValueError, "`factor` must be greater than 1; got nan."),
        (
            _S, _S.to("meta"), _P, {}, ValueError,
            "all tensors must lie on one device; got `source` on cpu, `target` on meta, `present` on cpu.",
        ),
        (
            _S, _S, _P.to("meta"), {}, ValueError,
            "all tensors must lie on one device; got `source` on cpu, `target` on cpu, `present` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(source, target, present, options, kind, text):
    with _raises(kind, f"centroid_kernel: {text}"):
        centroid_kernel(source, target, present, **options)
