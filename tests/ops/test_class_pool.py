import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from dastc import debug_checks
from dastc.functional import class_pool
from dastc.ops.class_pool.op import class_pool_op

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# N, D, H, W, K: pairwise different; one sample of 48 or 64 pixels takes the path that splits the pixels
SIZES = st.lists(st.integers(1, 9), min_size=5, max_size=5, unique=True) | st.sampled_from(
    [[1, 3, 6, 8, 5], [1, 2, 16, 4, 7], [1, 5, 2, 8, 3]]
)
SEEDS = st.integers(0, 2**31 - 1)


def _case(seed, sizes, dtype=torch.float64):
    n, d, h, w, k = sizes
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(n, d, h, w, generator=rng, dtype=torch.float64)
    labels = torch.randint(-2, k + 3, (n, h, w), generator=rng)  # some beyond both ends
    labels[torch.rand(n, h, w, generator=rng) < 0.2] = 255
    weights = torch.rand(n, h, w, generator=rng, dtype=torch.float64)
    return features.to(DEVICE, dtype), labels.to(DEVICE), weights.to(DEVICE, dtype)


def _plain(features, labels, num_classes, weights=None):
    """Class by class, with a mask."""
    weights = torch.ones_like(labels, dtype=features.dtype) if weights is None else weights
    sums, mass = [], []
    for k in range(num_classes):
        share = (labels == k) * weights
        sums.append((features * share.unsqueeze(1)).flatten(2).sum(-1))
        mass.append(share.flatten(1).sum(-1))
    return torch.stack(sums, dim=1), torch.stack(mass, dim=1)


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    features = torch.tensor([[[[1.0, 2, 4], [8, 16, 32]], [[-1, 0, 1], [2, 3, 4]]]], device=DEVICE)  # (1, 2, 2, 3)
    labels = torch.tensor([[[0, 2, 0], [255, 2, -1]]], device=DEVICE)
    weights = torch.tensor([[[1.0, 0.5, 0.25], [1, 1, 1]]], device=DEVICE)
    sums, mass = class_pool(features, labels, 3)
    assert sums.tolist() == [[[5, 0], [0, 0], [18, 3]]]
    assert mass.tolist() == [[2, 0, 2]]
    sums, mass = class_pool(features, labels, 3, weights=weights)
    assert sums.tolist() == [[[2, -0.75], [0, 0], [17, 3]]]
    assert mass.tolist() == [[1.25, 0, 1.5]]


@given(SEEDS, SIZES, st.booleans())
def test_equals_summing_class_by_class(seed, sizes, weighted):
    features, labels, weights = _case(seed, sizes)
    weights = weights if weighted else None
    found = class_pool(features, labels, sizes[4], weights=weights)
    torch.testing.assert_close(found, _plain(features, labels, sizes[4], weights))


@given(SEEDS, SIZES, st.booleans())
def test_gradients_equal_those_of_summing_class_by_class(seed, sizes, weighted):
    features, labels, weights = _case(seed, sizes)
    inputs = [features.requires_grad_()] + ([weights.requires_grad_()] if weighted else [])
    found = class_pool(features, labels, sizes[4], weights=inputs[1] if weighted else None)
    want = _plain(features, labels, sizes[4], inputs[1] if weighted else None)
    ups = [torch.randn_like(x) for x in found]
    if not weighted:  # the plain mass is then a count, and hangs on nothing
        found, want, ups = found[:1], want[:1], ups[:1]
    torch.testing.assert_close(torch.autograd.grad(found, inputs, ups), torch.autograd.grad(want, inputs, ups))


@pytest.mark.parametrize("pixels", [48 * 50, 101, 15 * 7])
@pytest.mark.parametrize("spread", ["everywhere", "in runs"])
@pytest.mark.parametrize("samples", [1, 2])
def test_more_classes_than_one_product_has_columns(samples, spread, pixels):
    # few classes at a time or all of them at once take differently wide products; each must find its way back
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(samples, 3, pixels, generator=rng, dtype=torch.float64).to(DEVICE)
    labels = torch.randint(-1, 42, (samples, pixels), generator=rng)
    labels = (labels.sort(-1).values if spread == "in runs" else labels).to(DEVICE)
    weights = torch.rand(samples, pixels, generator=rng, dtype=torch.float64).to(DEVICE)
    for weight in (None, weights):
        torch.testing.assert_close(
            tuple(class_pool(features, labels, 41, weights=weight)), _plain(features, labels, 41, weight)
        )


def test_each_output_alone_has_its_gradient():
    features, labels, weights = (v.requires_grad_(v.is_floating_point()) for v in _case(0, (2, 3, 4, 5, 6)))
    for i in range(2):
        found, want = class_pool(features, labels, 6, weights=weights)[i], _plain(features, labels, 6, weights)[i]
        up = torch.randn_like(found)
        torch.testing.assert_close(
            torch.autograd.grad(found, (features, weights), up, materialize_grads=True),
            torch.autograd.grad(want, (features, weights), up, materialize_grads=True),
        )


@pytest.mark.parametrize("sizes", [(2, 3, 2, 5, 4), (1, 2, 4, 8, 3)])
def test_derivatives_of_any_order(sizes):
    features, labels, weights = _case(0, sizes)
    inputs = features.requires_grad_(), weights.requires_grad_()
    assert gradcheck(lambda f, w: class_pool(f, labels, sizes[4], weights=w), inputs)
    assert gradgradcheck(lambda f, w: class_pool(f, labels, sizes[4], weights=w), inputs)
    assert gradgradcheck(lambda f: class_pool(f, labels, sizes[4], weights=weights.detach()), inputs[:1])
    assert gradcheck(lambda f: class_pool(f, labels, sizes[4])[0], inputs[:1])


@given(SEEDS, SIZES)
def test_permuting_the_classes_permutes_the_rows(seed, sizes):
    features, labels, weights = _case(seed, sizes)
    k = sizes[4]
    order = torch.randperm(k, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    counted = (labels >= 0) & (labels < k)
    renamed = order[labels.where(counted, 0)].where(counted, labels)
    sums, mass = class_pool(features, labels, k, weights=weights)
    other_sums, other_mass = class_pool(features, renamed, k, weights=weights)
    torch.testing.assert_close((other_sums[:, order], other_mass[:, order]), (sums, mass))


@given(SEEDS, SIZES)
def test_ignoring_pixels_equals_removing_them(seed, sizes):
    k = sizes[4]
    features, labels, weights = _case(seed, sizes)
    features, labels, weights = features.flatten(2), labels.flatten(1), weights.flatten(1)
    keep = torch.rand(labels.shape[1], generator=torch.Generator().manual_seed(seed)).to(DEVICE) < 0.6
    ignored = class_pool(features, labels.where(keep, 255), k, weights=weights)
    removed = class_pool(features[..., keep], labels[:, keep], k, weights=weights[:, keep])
    torch.testing.assert_close(ignored, removed)


@given(SEEDS, SIZES)
def test_ignoring_equals_one_more_class(seed, sizes):
    features, labels, weights = _case(seed, sizes)
    k = sizes[4]
    extra = labels.where((labels >= 0) & (labels < k), k)
    sums, mass = class_pool(features, extra, k + 1, weights=weights)
    torch.testing.assert_close(class_pool(features, labels, k, weights=weights), (sums[:, :k], mass[:, :k]))


@given(SEEDS, SIZES)
def test_a_batch_equals_its_samples_and_a_picture_its_halves(seed, sizes):
    features, labels, weights = _case(seed, sizes)
    k = sizes[4]
    sums, mass = class_pool(features, labels, k, weights=weights)
    for i in range(len(labels)):
        one = class_pool(features[i : i + 1], labels[i : i + 1], k, weights=weights[i : i + 1])
        torch.testing.assert_close((sums[i : i + 1], mass[i : i + 1]), one)
    cut = labels.shape[-1] // 2
    left = class_pool(features[..., :cut], labels[..., :cut], k, weights=weights[..., :cut])
    right = class_pool(features[..., cut:], labels[..., cut:], k, weights=weights[..., cut:])
    torch.testing.assert_close((left[0] + right[0], left[1] + right[1]), (sums, mass))


@given(SEEDS, SIZES, st.floats(0, 4))
def test_weights_scale_both_outputs(seed, sizes, scale):
    features, labels, weights = _case(seed, sizes)
    k = sizes[4]
    sums, mass = class_pool(features, labels, k, weights=weights)
    torch.testing.assert_close(class_pool(features, labels, k, weights=weights * scale), (sums * scale, mass * scale))
    torch.testing.assert_close(
        class_pool(features, labels, k, weights=torch.ones_like(weights)), class_pool(features, labels, k)
    )


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 2, 3, 4)])
def test_any_number_of_axes(shape):
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(shape[0], 3, *shape[1:], generator=rng, dtype=torch.float64).to(DEVICE)
    labels, weights = torch.randint(0, 4, shape, generator=rng).to(DEVICE), torch.rand(shape, generator=rng).to(DEVICE)
    found = class_pool(features, labels, 4, weights=weights)
    flat = features.reshape(5, 3, 1, -1), labels.reshape(5, 1, -1)
    torch.testing.assert_close(found, _plain(*flat, 4, weights.double().reshape(5, 1, -1)))


def _layouts():
    features, labels, weights = _case(0, (2, 3, 4, 5, 6))
    big = _case(1, (3, 5, 4, 8, 6))
    single = _case(2, (1, 3, 4, 8, 6))
    return {
        "contiguous": (features.flatten(2), labels.flatten(1), weights.flatten(1)),
        "channels_last": (
            features.permute(0, 2, 3, 1).contiguous().flatten(1, 2).mT,
            labels.mT.contiguous().mT.flatten(1),
            weights.flatten(1),
        ),
        "sliced": (big[0].flatten(2)[1:, :3, 3:23], big[1].flatten(1)[1:, 3:23], big[2].flatten(1)[1:, 3:23]),
        "expanded": (features[:, :1, :1, :1].expand(2, 3, 4, 5).flatten(2), labels.flatten(1), None),
        "split": (single[0].flatten(2), single[1].flatten(1), single[2].flatten(1)),
        "split, transposed": (
            single[0].flatten(2).mT.contiguous().mT,
            single[1].flatten(1).expand(1, 32),
            single[2].flatten(1),
        ),
        "empty": (features[:0].flatten(2), labels[:0].flatten(1), weights[:0].flatten(1)),
        "half": (features.flatten(2).half(), labels.flatten(1), weights.flatten(1).bfloat16()),
    }


@pytest.mark.parametrize("layout", _layouts())
def test_registration_is_sound(layout):
    features, labels, weights = _layouts()[layout]
    features = features.detach().requires_grad_()
    weights = None if weights is None else weights.detach().requires_grad_()
    torch.library.opcheck(class_pool_op, (features, labels, weights, 6))


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded", "split, transposed"])
def test_strides_do_not_matter(layout):
    features, labels, weights = _layouts()[layout]
    weights = torch.ones(labels.shape, dtype=torch.float64, device=DEVICE) if weights is None else weights
    given_inputs = features.detach().requires_grad_(), weights.detach().requires_grad_()
    dense = [x.detach().contiguous().requires_grad_() for x in given_inputs]
    one = class_pool(given_inputs[0], labels, 6, weights=given_inputs[1])
    other = class_pool(dense[0], labels.contiguous(), 6, weights=dense[1])
    torch.testing.assert_close(one, other)
    up = torch.randn(one[0].mT.shape, dtype=torch.float64, device=DEVICE).mT, torch.randn_like(one[1].mT).mT
    torch.testing.assert_close(
        torch.autograd.grad(one, given_inputs, up), torch.autograd.grad(other, dense, [x.contiguous() for x in up])
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [(2, 3, 17, 19, 5), (1, 3, 16, 48, 5)])
def test_dtypes_against_float64(dtype, sizes):
    features, labels, weights = (v.requires_grad_(v.is_floating_point()) for v in _case(0, sizes, dtype))
    found = class_pool(features, labels, sizes[4], weights=weights)
    wide = [v.detach().double().requires_grad_() for v in (features, weights)]
    want = _plain(wide[0], labels, sizes[4], wide[1])
    compute = torch.promote_types(dtype, torch.float32)
    assert [x.dtype for x in found] == [compute, compute]
    # what is stored is summed exactly but for the rounding of a sum of H*W terms
    atol = sizes[2] * sizes[3] * torch.finfo(compute).eps
    torch.testing.assert_close([x.double() for x in found], list(want), rtol=0, atol=atol)
    ups = [torch.randn_like(x) for x in found]
    grads = torch.autograd.grad(found, (features, weights), ups)
    exact = torch.autograd.grad(want, wide, [x.double() for x in ups])
    assert [g.dtype for g in grads] == [dtype, dtype]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close([g.double() for g in grads], list(exact), rtol=eps, atol=64 * torch.finfo(compute).eps)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    # neither half can count to 4097, nor add a small step to a large sum
    features = torch.full((2, 1, 17, 241), 1 + 2**-7, dtype=dtype, device=DEVICE)
    labels = torch.zeros(2, 17, 241, dtype=torch.int64, device=DEVICE)
    weights = torch.ones(2, 17, 241, dtype=dtype, device=DEVICE)
    sums, mass = class_pool(features, labels, 1, weights=weights)
    assert mass.flatten().tolist() == [4097.0, 4097.0]
    torch.testing.assert_close(sums.flatten(), torch.full((2,), 4097 * (1 + 2**-7), device=DEVICE))


def test_autocast_does_not_reach_inside():
    features, labels, weights = (
        v.requires_grad_(v.is_floating_point()) for v in _case(0, (2, 3, 4, 5, 6), torch.float32)
    )
    plain = class_pool(features, labels, 6, weights=weights)
    ups = [torch.randn_like(x) for x in plain]
    want = torch.autograd.grad(plain, (features, weights), ups)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = class_pool(features, labels, 6, weights=weights)
        grads = torch.autograd.grad(found, (features, weights), ups)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    torch.testing.assert_close(grads, want, rtol=0, atol=0)


def test_an_ignored_label_that_is_a_class_takes_no_part():
    rng = torch.Generator().manual_seed(0)
    features, labels = torch.randn(2, 4, 6, 5, generator=rng), torch.randint(0, 3, (2, 6, 5), generator=rng)
    sums, mass = class_pool(features, labels, 3, ignore_index=0)
    torch.testing.assert_close((sums, mass), class_pool(features, labels.where(labels != 0, 255), 3))
    assert mass[:, 0].eq(0).all()
    assert mass[:, 1:].gt(0).all()


def _ignored(labels, share):
    rng = torch.Generator().manual_seed(5)
    return labels.where(torch.rand(labels.shape, generator=rng).to(DEVICE) >= share, 255)


@pytest.mark.parametrize("weighted", [False, True])
def test_compiles_without_a_graph_break(weighted):
    compiled = torch.compile(class_pool, fullgraph=True, backend="aot_eager")
    for share in (0.0, 0.25, 1.0):
        results = []
        for pool in (compiled, class_pool):
            features, labels, weights = _case(3, (2, 3, 4, 5, 6), torch.float32)
            labels, weights = _ignored(labels.clamp(0, 5), share), weights.requires_grad_() if weighted else None
            sums, mass = pool(features.requires_grad_(), labels, 6, weights=weights)
            up = torch.randn(sums.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE)
            inputs = (features, weights) if weighted else (features,)
            results.append((sums, mass, *torch.autograd.grad((sums, mass), inputs, (up, up[..., 0]))))
        torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(2, 3, 4, 5, 6), (1, 3, 4, 8, 6)])
def test_all_ignored_is_exactly_zero_and_connected(sizes):
    features, labels, weights = _case(0, sizes)
    inputs = features.requires_grad_(), weights.requires_grad_()
    found = class_pool(features, torch.full_like(labels, 255), 6, weights=weights)
    for x in found:
        assert torch.equal(x, torch.zeros_like(x))
    for grad in torch.autograd.grad(found, inputs, [torch.randn_like(x) for x in found]):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_weights_of_zero_take_the_pixel_out():
    features, labels, weights = _case(0, (2, 3, 4, 5, 6))
    weights = weights * (torch.rand_like(weights) < 0.5)
    removed = class_pool(features, labels.where(weights > 0, 255), 6, weights=weights)
    torch.testing.assert_close(class_pool(features, labels, 6, weights=weights), removed)
    sums, mass = class_pool(features, labels, 6, weights=weights * 0)
    assert not sums.any()
    assert not mass.any()


@pytest.mark.parametrize("label", [254, 19, -1, -100, 2**62, -(2**62)])
def test_labels_far_outside_touch_nothing(label):
    features, labels, weights = _case(0, (2, 3, 4, 5, 19))
    labels[:, 1, 2:] = label
    want = class_pool(features, labels.where(labels != label, 255), 19, weights=weights)
    torch.testing.assert_close(class_pool(features, labels, 19, weights=weights), want, rtol=0, atol=0)


def test_nan_stays_in_its_channel_and_sample():
    features, labels, weights = _case(0, (2, 3, 4, 5, 6))
    want = class_pool(features, labels, 6, weights=weights)[0]
    features[1, 2, 0, 0] = float("nan")
    sums = class_pool(features, labels, 6, weights=weights)[0]
    assert sums[1, :, 2].isnan().all()
    sums[1, :, 2] = want[1, :, 2]
    torch.testing.assert_close(sums, want)


@pytest.mark.parametrize("sizes", [(0, 3, 4, 5, 6), (2, 3, 0, 5, 6), (1, 3, 4, 0, 6), (1, 1, 1, 1, 1), (3, 2, 1, 5, 1)])
@pytest.mark.parametrize("weighted", [False, True])
def test_sizes_at_the_edge(sizes, weighted):
    features, labels, weights = _case(0, sizes)
    weights = weights if weighted else None
    sums, mass = class_pool(features.requires_grad_(), labels, sizes[4], weights=weights)
    torch.testing.assert_close((sums, mass), _plain(features, labels, sizes[4], weights))
    assert torch.isfinite(torch.autograd.grad(sums, features, torch.ones_like(sums))[0]).all()


def test_debug_checks_name_the_labels():
    features, labels = torch.zeros(1, 2, 4, device=DEVICE), torch.tensor([[0, 254, -1, 255]], device=DEVICE)
    class_pool(features, labels, 19)
    with debug_checks():
        with _raises(ValueError, "class_pool: `labels` must lie in [0, 19) or be 255; got values from -1 to 254."):
            class_pool(features, labels, 19)
        with _raises(ValueError, "class_pool: `labels` must lie in [0, 19) or be 7; got values from 19 to 19."):
            class_pool(features, torch.full_like(labels, 19), 19, ignore_index=7)
        class_pool(features, labels.clamp(min=0).where(labels != 254, 18), 19)
        class_pool(features, torch.full_like(labels, -1), 19, ignore_index=-1)


def test_debug_checks_name_the_features():
    features, labels = torch.zeros(1, 2, 4, device=DEVICE), torch.zeros(1, 4, dtype=torch.int64, device=DEVICE)
    features[0, 0, 0] = float("inf")
    with debug_checks(), _raises(ValueError, "class_pool: `features` must be finite; got NaN or infinite values."):
        class_pool(features, labels, 2)


_F, _L, _W = torch.zeros(1, 2, 4, 6), torch.zeros(1, 4, 6, dtype=torch.int64), torch.zeros(1, 4, 6)
_HINT = "Resize labels to this grid with resize_labels."


@pytest.mark.parametrize(
    ("features", "labels", "classes", "weights", "kind", "text"),
    [
        (_F[0, 0, 0], _L, 2, None, ValueError, "class_pool: `features` must have shape (N, D, *S); got (6,)."),
        (
            _F, _L[..., 1:], 2, None, ValueError,
            f"class_pool: `labels` must have shape (1, 4, 6); got (1, 4, 5). {_HINT}",
        ),
        (
            _F, _L.unsqueeze(1), 2, None, ValueError,
            f"class_pool: `labels` must have shape (1, 4, 6); got (1, 1, 4, 6). {_HINT}",
        ),
        (
            _F, _L, 2, _W.mT, ValueError,
            f"class_pool: `weights` must have shape (1, 4, 6); got (1, 6, 4). {_HINT}",
        ),
        (_F.long(), _L, 2, None, TypeError, "class_pool: `features` must be of dtype float; got torch.int64."),
        (_F, _L.int(), 2, None, TypeError, "class_pool: `labels` must be of dtype int64; got torch.int32."),
        (_F, _L, 2, _W.bool(), TypeError, "class_pool: `weights` must be of dtype float; got torch.bool."),
        (_F, _L, 0, None, ValueError, "class_pool: `num_classes` must be at least 1; got 0."),
        (
            _F, _L.to("meta"), 2, _W, ValueError,
            "class_pool: all tensors must lie on one device; got `features` on cpu, `labels` on meta, "
            "`weights` on cpu.",
        ),
        (
            _F, _L, 2, _W.to("meta"), ValueError,
            "class_pool: all tensors must lie on one device; got `features` on cpu, `labels` on cpu, "
            "`weights` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(features, labels, classes, weights, kind, text):
    with _raises(kind, text):
        class_pool(features, labels, classes, weights=weights)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("label", [-1, 4, 255])
def test_what_does_not_count_may_be_anything(weighted, value, label):
    features, labels, weights = _case(0, [2, 3, 4, 5, 4])
    labels[0, 1, 2] = label
    expected = class_pool(features, labels, 4, weights=weights if weighted else None)
    features[0, :, 1, 2], weights[0, 1, 2] = value, value
    features.requires_grad_()
    found = class_pool(features, labels, 4, weights=weights if weighted else None)
    torch.testing.assert_close(found, expected)
    (to_features,) = torch.autograd.grad(found[0].sum(), features)
    assert to_features.isfinite().all()
    assert not to_features[0, :, 1, 2].any()


def test_a_weight_of_nothing_hides_what_is_not_finite():
    features, labels, weights = _case(0, [2, 3, 4, 5, 4])
    labels[0, 1, 2], weights[0, 1, 2] = 0, 0
    expected = class_pool(features, labels, 4, weights=weights)
    features[0, :, 1, 2] = float("nan")
    torch.testing.assert_close(class_pool(features, labels, 4, weights=weights), expected)


def test_what_counts_and_is_not_finite_is_seen():
    features, labels, _ = _case(0, [1, 3, 4, 5, 4])
    labels[0, 1, 2] = 2
    features[0, 0, 1, 2] = float("nan")
    sums, _ = class_pool(features, labels, 4)
    assert sums[0, 2, 0].isnan()
    assert sums[0, :, 1:].isfinite().all()
