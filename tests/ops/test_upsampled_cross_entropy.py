import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from dastc import debug_checks
from dastc.functional import upsampled_cross_entropy
from dastc.ops import _bands
from dastc.ops.upsampled_ce.op import upsampled_ce_backward_op, upsampled_ce_op, upsampled_ce_sum_op
from dastc.ops.upsampled_ce.reference import upsampled_ce_backward_reference, upsampled_ce_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# on a GPU PyTorch adds up the gradient of a resized picture in no fixed order, so not even a repetition is equal
SAME = {"rtol": 0, "atol": 0} if DEVICE == "cpu" else {}
SEEDS = st.integers(0, 2**31 - 1)
# N, K, h, w, H, W: pairwise different, the labels finer or coarser than the logits
SIZES = st.lists(st.integers(1, 12), min_size=6, max_size=6, unique=True)
BANDS = st.sampled_from([1, 60, 200, 2**19])  # elements in a band: a row each, a few rows, all


def _case(seed, sizes, dtype=torch.float64):
    n, k, h, w, height, width = sizes
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, h, w, generator=rng, dtype=torch.float64) * 3
    labels = torch.randint(-2, k + 3, (n, height, width), generator=rng)  # some beyond both ends
    labels[torch.rand(labels.shape, generator=rng) < 0.2] = 255
    weights = torch.rand(n, height, width, generator=rng, dtype=torch.float64)
    return logits.to(DEVICE, dtype), labels.to(DEVICE), weights.to(DEVICE, dtype)


def _counted(labels, classes):
    return (labels >= 0) & (labels < classes)


def _plain(logits, labels, weights=None):
    """The loss of each pixel."""
    counted = _counted(labels, logits.shape[1])
    full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
    loss = F.cross_entropy(full, labels.where(counted, -100), reduction="none")
    return loss if weights is None else loss * weights


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    # two columns of logits, four of labels, which lie at -1/4 (clamped), 1/4, 3/4 and 5/4 (clamped) of the first two
    logits = torch.tensor([[0.0, 4.0], [0.0, 0.0]], dtype=torch.float64, device=DEVICE).view(1, 2, 1, 2)
    labels = torch.tensor([[[0, 1, 255, 0]]], device=DEVICE)
    want = [math.log(2), math.log(1 + math.e), 0.0, math.log(1 + math.exp(-4))]
    found = upsampled_cross_entropy(logits, labels, reduction="none")
    assert found.flatten().tolist() == pytest.approx(want)
    assert float(upsampled_cross_entropy(logits, labels, reduction="sum")) == pytest.approx(sum(want))
    assert float(upsampled_cross_entropy(logits, labels)) == pytest.approx(sum(want) / 3)
    weights = torch.tensor([[[1.0, 0.5, 1.0, 0.0]]], device=DEVICE)
    # divided by the three labelled pixels, not by the weights
    weighted = upsampled_cross_entropy(logits, labels, weights=weights)
    assert float(weighted) == pytest.approx((want[0] + want[1] / 2) / 3)


def test_known_gradient():
    logits = torch.zeros(1, 2, 1, 1, dtype=torch.float64, device=DEVICE, requires_grad=True)
    labels = torch.tensor([[[0, 0, 0, 1], [255, 0, -1, 2]]], device=DEVICE)
    (grad,) = torch.autograd.grad(upsampled_cross_entropy(logits, labels, reduction="sum"), logits)
    # of five labelled pixels four pull class 0 up by 1/2, one pulls it down
    assert grad.flatten().tolist() == [-1.5, 1.5]


@given(SEEDS, SIZES, BANDS, st.booleans())
def test_equals_upsampling_first(seed, sizes, band, weighted):
    logits, labels, weights = _case(seed, sizes)
    weights = weights if weighted else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: band)
        found = upsampled_cross_entropy(logits, labels, weights=weights, reduction="none")
        total = upsampled_cross_entropy(logits, labels, weights=weights, reduction="sum")
        mean = upsampled_cross_entropy(logits, labels, weights=weights)
    want = _plain(logits, labels, weights)
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(total, want.sum())
    torch.testing.assert_close(mean, want.sum() / max(int(_counted(labels, sizes[1]).sum()), 1))
    assert not found[~_counted(labels, sizes[1])].any()


@given(SEEDS, SIZES, BANDS)
def test_gradients_equal_those_of_upsampling_first(seed, sizes, band):
    logits, labels, weights = _case(seed, sizes)
    inputs = logits.requires_grad_(), weights.requires_grad_()
    up = torch.randn(labels.shape, dtype=torch.float64, device=DEVICE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: band)
        found = torch.autograd.grad(
            upsampled_cross_entropy(logits, labels, weights=weights, reduction="none"), inputs, up
        )
    torch.testing.assert_close(found, torch.autograd.grad(_plain(logits, labels, weights), inputs, up))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(reduction):
    logits, labels, weights = _case(0, (2, 3, 2, 4, 5, 3))
    inputs = logits.requires_grad_(), weights.requires_grad_()
    assert gradcheck(lambda z, w: upsampled_cross_entropy(z, labels, weights=w, reduction=reduction), inputs)


def test_a_second_derivative_is_refused_rather_than_wrong():
    logits, labels, _ = _case(0, (2, 3, 2, 4, 5, 6))
    loss = upsampled_cross_entropy(logits.requires_grad_(), labels)
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.square().sum().backward()


@given(SEEDS, SIZES)
def test_permuting_the_classes_changes_nothing(seed, sizes):
    logits, labels, _ = _case(seed, sizes)
    order = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    counted = _counted(labels, sizes[1])
    renamed = order.argsort()[labels.where(counted, 0)].where(counted, 255)
    torch.testing.assert_close(
        upsampled_cross_entropy(logits[:, order], renamed, reduction="none"),
        upsampled_cross_entropy(logits, labels, reduction="none"),
    )


@given(SEEDS, SIZES)
def test_ignoring_pixels_equals_removing_them(seed, sizes):
    logits, labels, weights = _case(seed, sizes)
    keep = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE) < 0.6
    found = upsampled_cross_entropy(logits, labels.where(keep, 255), weights=weights)
    left = keep & _counted(labels, sizes[1])
    want = _plain(logits, labels, weights)[left]
    torch.testing.assert_close(found, want.mean() if left.any() else want.sum())


@given(SEEDS, SIZES)
def test_ignoring_equals_one_more_class_that_nobody_expects(seed, sizes):
    logits, labels, _ = _case(seed, sizes)
    counted = _counted(labels, sizes[1])
    more = torch.cat((logits, torch.full_like(logits[:, :1], -1e4)), dim=1)
    found = upsampled_cross_entropy(more, labels.where(counted, sizes[1]), reduction="none")
    torch.testing.assert_close(
        found.where(counted, 0), upsampled_cross_entropy(logits, labels, reduction="none"), atol=1e-8, rtol=1e-7
    )


@given(SEEDS, SIZES)
def test_a_batch_equals_its_samples(seed, sizes):
    logits, labels, weights = _case(seed, sizes)
    found = upsampled_cross_entropy(logits, labels, weights=weights, reduction="sum")
    one_by_one = [
        upsampled_cross_entropy(z, y, weights=w, reduction="sum")
        for z, y, w in zip(logits.split(1), labels.split(1), weights.split(1), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(one_by_one).sum())


@given(SEEDS, SIZES, st.floats(0, 4))
def test_weights_scale_the_loss(seed, sizes, scale):
    logits, labels, weights = _case(seed, sizes)
    for reduction in ("mean", "sum", "none"):
        torch.testing.assert_close(
            upsampled_cross_entropy(logits, labels, weights=weights * scale, reduction=reduction),
            upsampled_cross_entropy(logits, labels, weights=weights, reduction=reduction) * scale,
        )
        torch.testing.assert_close(
            upsampled_cross_entropy(logits, labels, weights=torch.ones_like(weights), reduction=reduction),
            upsampled_cross_entropy(logits, labels, reduction=reduction),
        )


@given(SEEDS, SIZES, st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(seed, sizes, constant):
    logits, labels, _ = _case(seed, sizes)
    torch.testing.assert_close(
        upsampled_cross_entropy(logits + constant, labels), upsampled_cross_entropy(logits, labels)
    )


def _layouts():
    logits, labels, _ = _case(0, (2, 5, 3, 4, 7, 6))
    big = _case(1, (3, 6, 5, 7, 9, 8))
    return {
        "contiguous": (logits, labels),
        "channels_last": (logits.to(memory_format=torch.channels_last), labels.mT.contiguous().mT),
        "sliced": (big[0][1:, :5, 1:4, 2:6], big[1][1:, 2:, 1:7]),
        "expanded": (logits[:1, :, :1].expand(2, -1, 3, -1), labels[:1].expand(2, -1, -1)),
        "same size": (_case(0, (2, 5, 7, 6, 7, 6))[0], labels),
        "empty": (logits[:0], labels[:0]),
        "half": (logits.half(), labels),
    }


@pytest.mark.parametrize("layout", _layouts())
def test_registration_is_sound(layout):
    logits, labels = _layouts()[layout]
    torch.library.opcheck(upsampled_ce_op, (logits.detach().requires_grad_(), labels, None, 255))
    weights = torch.rand(labels.shape, device=DEVICE, requires_grad=True)
    torch.library.opcheck(upsampled_ce_sum_op, (logits.detach().requires_grad_(), labels, weights, 1))
    compute = torch.promote_types(logits.dtype, torch.float32)
    up = torch.randn(labels.mT.shape, dtype=compute, device=DEVICE).mT
    torch.library.opcheck(
        upsampled_ce_backward_op, (up, logits, labels, None, 255), test_utils=("test_schema", "test_faketensor")
    )


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded", "same size"])
def test_strides_do_not_matter(layout):
    logits, labels = _layouts()[layout]
    logits = logits.detach().requires_grad_()
    found = upsampled_cross_entropy(logits, labels, reduction="none")
    want = _plain(logits, labels)
    up = torch.randn(labels.mT.shape, dtype=torch.float64, device=DEVICE).mT
    torch.testing.assert_close(found, want)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits, up), torch.autograd.grad(want, logits, up.contiguous())
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype):
    logits, labels, weights = _case(0, (2, 5, 3, 4, 23, 19), dtype)
    inputs = logits.requires_grad_(), weights.requires_grad_()
    wide = [x.detach().double().requires_grad_() for x in inputs]
    found = upsampled_cross_entropy(logits, labels, weights=weights, reduction="none")
    want = _plain(wide[0], labels, wide[1])
    compute = torch.promote_types(dtype, torch.float32)
    eps, size = torch.finfo(compute).eps, float(logits.detach().double().abs().max())
    assert found.dtype == compute
    torch.testing.assert_close(found.double(), want, rtol=0, atol=16 * size * eps)
    up = torch.randn_like(found)
    grads = torch.autograd.grad(found, inputs, up)
    exact = torch.autograd.grad(want, wide, up.double())
    assert [g.dtype for g in grads] == [dtype, dtype]
    # one rounding on the way out; before it a sum over the 23 x 19 pixels at most
    torch.testing.assert_close(
        [g.double() for g in grads], list(exact), rtol=torch.finfo(dtype).eps, atol=23 * 19 * 4 * eps
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    logits, labels, _ = _case(0, (1, 3, 2, 5, 4, 600), dtype)
    wide = logits.float().requires_grad_()
    one = upsampled_cross_entropy(logits.requires_grad_(), labels)
    other = upsampled_cross_entropy(wide, labels)
    assert torch.equal(one, other)
    (found,), (want,) = torch.autograd.grad(one, logits), torch.autograd.grad(other, wide)
    assert torch.equal(found, want.to(dtype))


def test_wide_weights_do_not_widen_the_loss():
    logits, labels, weights = _case(0, (2, 5, 3, 4, 7, 6))
    found = upsampled_cross_entropy(logits.float(), labels, weights=weights)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, upsampled_cross_entropy(logits.float(), labels, weights=weights.float()))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_a_graph_break(reduction):
    compiled = torch.compile(upsampled_cross_entropy, fullgraph=True, backend="aot_eager")
    rng = torch.Generator().manual_seed(5)
    for share in (0.0, 0.25, 1.0):
        logits, labels, weights = _case(3, (2, 5, 3, 4, 7, 6), torch.float32)
        labels = labels.clamp(0, 4).where(torch.rand(labels.shape, generator=rng).to(DEVICE) >= share, 255)
        inputs = logits.requires_grad_(), weights.requires_grad_()
        results = []
        for run in (compiled, upsampled_cross_entropy):
            loss = run(logits, labels, weights=weights, reduction=reduction)
            up = torch.randn(loss.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
            results.append((loss, *torch.autograd.grad(loss, inputs, up)))
        torch.testing.assert_close(*results, **SAME)


class _Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes():
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
        return out


def test_upsampled_logits_never_exist(monkeypatch):
    monkeypatch.setattr(_bands, "band_elements", lambda _: 4096)
    logits, labels, weights = _case(0, (1, 19, 5, 9, 64, 128), torch.float32)
    with _Largest() as plain:
        _plain(logits, labels)
    with _Largest() as banded:
        upsampled_ce_reference(logits, labels, weights, 255)
        upsampled_ce_backward_reference(weights, logits, labels, weights, 255)
    assert plain.numel >= 19 * 64 * 128
    assert banded.numel <= 19 * 64 * 128 / 8


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_all_ignored_is_exactly_zero_and_connected(reduction, value):
    logits, labels, weights = _case(0, (2, 5, 3, 4, 7, 6), torch.float32)
    logits[0, 1] += value
    inputs = logits.requires_grad_(), weights.requires_grad_()
    loss = upsampled_cross_entropy(logits, torch.full_like(labels, 255), weights=weights, reduction=reduction)
    assert torch.equal(loss, torch.zeros_like(loss))
    for grad in torch.autograd.grad(loss, inputs, torch.randn_like(loss)):
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_an_ignored_label_that_is_a_class_takes_no_part(reduction):
    logits, labels = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 8, 10))
    loss = upsampled_cross_entropy(logits, labels, ignore_index=0, reduction=reduction)
    without = upsampled_cross_entropy(logits, labels.where(labels != 0, 255), reduction=reduction)
    torch.testing.assert_close(loss, without)
    assert not torch.allclose(loss, upsampled_cross_entropy(logits, labels, reduction=reduction))


def test_nan_below_ignored_pixels_does_not_spread():
    logits, labels, _ = _case(0, (1, 5, 3, 8, 9, 24))
    labels = labels.clamp(0, 4)
    labels[..., :6] = 255  # all that the first column of logits reaches
    want = logits.clone().requires_grad_()
    up = torch.randn(labels.shape, dtype=torch.float64, device=DEVICE)
    (exact,) = torch.autograd.grad(_plain(want, labels), want, up)
    logits[..., 0] = float("nan")
    found = upsampled_cross_entropy(logits.requires_grad_(), labels, reduction="none")
    torch.testing.assert_close(found, _plain(want, labels))
    (grad,) = torch.autograd.grad(found, logits, up)
    torch.testing.assert_close(grad, exact)
    assert not grad[..., 0].any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_weight_of_an_ignored_pixel_is_not_looked_at(reduction):
    logits, labels, weights = _case(0, (2, 5, 3, 4, 7, 6))
    counted = _counted(labels, 5) & (labels != 2)
    results = []
    for junk in (0.0, float("nan")):
        inputs = logits.clone().requires_grad_(), weights.where(counted, junk).requires_grad_()
        loss = upsampled_cross_entropy(inputs[0], labels, weights=inputs[1], ignore_index=2, reduction=reduction)
        results.append((loss, *torch.autograd.grad(loss, inputs, torch.ones_like(loss))))
    torch.testing.assert_close(*results, **SAME)
    assert all(x.any() for x in results[0])


def test_nan_logits_are_not_hidden():
    logits, labels, _ = _case(0, (2, 5, 3, 4, 7, 6))
    logits[1, 2] = float("nan")
    loss = upsampled_cross_entropy(logits, labels.clamp(0, 4), reduction="none")
    assert loss[1].isnan().all()
    assert not loss[0].isnan().any()


def test_weights_of_zero_give_a_loss_of_zero():
    logits, labels, weights = _case(0, (2, 5, 3, 4, 7, 6))
    loss = upsampled_cross_entropy(logits.requires_grad_(), labels, weights=weights * 0)
    assert float(loss.detach()) == 0
    assert not torch.autograd.grad(loss, logits)[0].any()


@pytest.mark.parametrize("label", [254, 19, -1, -100, 2**62, -(2**62)])
def test_labels_far_outside_touch_nothing(label):
    logits, labels, _ = _case(0, (2, 19, 3, 4, 7, 6))
    labels[:, 1, 2:] = label
    results = []
    for y in (labels, labels.where(labels != label, 255)):
        loss = upsampled_cross_entropy(logits.requires_grad_(), y)
        results.append((loss, *torch.autograd.grad(loss, logits)))
    torch.testing.assert_close(*results, **SAME)


@pytest.mark.parametrize(
    "sizes",
    [(0, 3, 2, 4, 5, 6), (2, 1, 3, 4, 5, 6), (1, 3, 1, 1, 5, 4), (2, 3, 4, 5, 1, 6), (2, 3, 4, 5, 6, 1)],
)  # fmt: skip
def test_sizes_at_the_edge(sizes):
    logits, labels, _ = _case(0, sizes)
    loss = upsampled_cross_entropy(logits.requires_grad_(), labels, reduction="none")
    torch.testing.assert_close(loss, _plain(logits, labels))
    mean = upsampled_cross_entropy(logits, labels)
    assert torch.isfinite(mean)
    assert torch.isfinite(torch.autograd.grad(mean, logits)[0]).all()
    if sizes[1] == 1:
        assert not loss.any()


def test_debug_checks_name_the_labels():
    logits, labels = torch.zeros(1, 19, 2, 2, device=DEVICE), torch.tensor([[[0, 254], [-1, 255]]], device=DEVICE)
    upsampled_cross_entropy(logits, labels)
    with debug_checks():
        text = "upsampled_cross_entropy: `labels` must lie in [0, 19) or be 255; got values from -1 to 254."
        with _raises(ValueError, text):
            upsampled_cross_entropy(logits, labels)
        upsampled_cross_entropy(logits, labels.clamp(min=0).where(labels != 254, 18))
        upsampled_cross_entropy(logits, torch.full_like(labels, -1), ignore_index=-1)


def test_debug_checks_name_the_logits():
    logits, labels = torch.zeros(1, 3, 2, 2, device=DEVICE), torch.zeros(1, 4, 4, dtype=torch.int64, device=DEVICE)
    logits[0, 0, 0, 0] = float("-inf")
    text = "upsampled_cross_entropy: `logits` must be finite; got NaN or infinite values."
    with debug_checks(), _raises(ValueError, text):
        upsampled_cross_entropy(logits, labels)


_Z, _Y, _W = torch.zeros(2, 5, 3, 4), torch.zeros(2, 7, 6, dtype=torch.int64), torch.zeros(2, 7, 6)
_CALLER = "upsampled_cross_entropy"


@pytest.mark.parametrize(
    ("logits", "labels", "options", "kind", "text"),
    [
        (_Z[0], _Y, {}, ValueError, "`logits` must have shape (N, K, h, w); got (5, 3, 4)."),
        (
            _Z[:, :, :0], _Y, {}, ValueError,
            "`logits` must have a size of at least 1 along h; got (2, 5, 0, 4).",
        ),
        (_Z, _Y[:1], {}, ValueError, "`labels` must have shape (N=2, H, W); got (1, 7, 6)."),
        (_Z, _Y.unsqueeze(1), {}, ValueError, "`labels` must have shape (N=2, H, W); got (2, 1, 7, 6)."),
        (_Z, _Y, {"weights": _W.mT}, ValueError, "`weights` must have shape (N=2, H=7, W=6); got (2, 6, 7)."),
        (_Z.long(), _Y, {}, TypeError, "`logits` must be of dtype float; got torch.int64."),
        (_Z, _Y.int(), {}, TypeError, "`labels` must be of dtype int64; got torch.int32."),
        (_Z, _Y, {"weights": _W.bool()}, TypeError, "`weights` must be of dtype float; got torch.bool."),
        (
            _Z, _Y, {"reduction": "average"}, ValueError,
            "`reduction` must be one of 'mean', 'sum', 'none'; got 'average'.",
        ),
        (
            _Z, _Y.to("meta"), {}, ValueError,
            "all tensors must lie on one device; got `logits` on cpu, `labels` on meta.",
        ),
        (
            _Z, _Y, {"weights": _W.to("meta")}, ValueError,
            "all tensors must lie on one device; got `logits` on cpu, `labels` on cpu, `weights` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(logits, labels, options, kind, text):
    with _raises(kind, f"{_CALLER}: {text}"):
        upsampled_cross_entropy(logits, labels, **options)
