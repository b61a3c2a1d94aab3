import math
import re
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.functional import Centroids, cdd, infonce, margin, mmd
from dastc.functional.alignment import inter_class, intra_class

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.lists(st.integers(1, 8), min_size=2, max_size=2, unique=True)  # K, D
LOSSES = [mmd, cdd, infonce, margin, intra_class, inter_class]
BY_NAME = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def _case(seed, sizes, dtype=torch.float64):
    k, d = sizes
    rng = torch.Generator().manual_seed(seed)
    pair = torch.randn(2, k, d, generator=rng, dtype=torch.float64)
    # masses of any size; about a quarter of the classes is absent in each domain
    mass = torch.rand(2, k, generator=rng) * 100 * (torch.rand(2, k, generator=rng) < 0.75)
    return tuple(Centroids(x.to(DEVICE, dtype), m.to(DEVICE, dtype)) for x, m in zip(pair, mass, strict=True))


def _everything(x):
    return Centroids(x, torch.ones_like(x[:, 0]))


def _shared(source, target):
    return [k for k in range(len(source.mass)) if source.mass[k] > 0 and target.mass[k] > 0]


def _kernel(rows):
    """Compare two rows, with bandwidths around the mean squared distance of all of them."""
    distances = [(p - q).square().sum().detach() for i, p in enumerate(rows) for q in rows[:i]]
    mean = sum(distances) / len(distances)
    return lambda a, b: sum(torch.exp(-(a - b).square().sum() / (mean * 2.0**m)) for m in range(-2, 3))


def _plain_mmd(source, target):
    shared = _shared(source, target)
    s, t = source.values, target.values
    k = _kernel([*s[shared], *t[shared]])
    terms = [k(s[a], s[b]) + k(t[a], t[b]) - k(s[a], t[b]) - k(t[a], s[b]) for a in shared for b in shared]
    return sum(terms) / len(terms)


def _plain_cdd(source, target):
    shared = _shared(source, target)
    s, t = source.values, target.values
    k = _kernel([*s[shared], *t[shared]])
    distance = {(a, b): k(s[a], s[a]) + k(t[b], t[b]) - 2 * k(s[a], t[b]) for a in shared for b in shared}
    together, apart = ([d for (a, b), d in distance.items() if (a == b) is same] for same in (True, False))
    return sum(together) / len(together) - sum(apart) / len(apart)


def _cos(a, b):
    return F.cosine_similarity(a, b, dim=0)


def _plain_infonce(source, target, temperature=0.1):
    terms = []
    for one, other in ((source, target), (target, source)):
        there = [k for k in range(len(other.mass)) if other.mass[k] > 0]
        for k in _shared(source, target):
            scores = torch.stack([_cos(one.values[k], other.values[j]) / temperature for j in there])
            terms.append(scores.logsumexp(0) - scores[there.index(k)])
    return sum(terms) / len(terms)


def _plain_intra(source, target):
    terms = [2 - 2 * _cos(source.values[k], target.values[k]) for k in _shared(source, target)]
    return sum(terms) / len(terms)


def _plain_inter(source, target, distance=1.0):
    centres = []
    for k in range(len(source.mass)):
        units = [c.values[k] / c.values[k].norm() for c in (source, target) if c.mass[k] > 0]
        if units:
            centre = sum(units)
            centres.append(centre / centre.norm())
    terms = [(distance - (a - b).norm()).relu().square() for i, a in enumerate(centres) for b in centres[:i]]
    return sum(terms) / len(terms)


def _plain_margin(source, target):
    return _plain_intra(source, target) + _plain_inter(source, target)


PLAIN = {
    mmd: _plain_mmd,
    cdd: _plain_cdd,
    infonce: _plain_infonce,
    margin: _plain_margin,
    intra_class: _plain_intra,
    inter_class: _plain_inter,
}


def _with_two_shared(source, target):
    """Let there be something to compare: the first two classes are present in both."""
    masses = [c.mass.clone() for c in (source, target)]
    for mass in masses:
        mass[:2] = 3.0
    return Centroids(source.values, masses[0]), Centroids(target.values, masses[1])


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_value_of_mmd():
    # one class at distance d: the bandwidths are d^2 times 1/4 ... 4, so the value does not depend on d
    across = sum(math.exp(-s) for s in (4, 2, 1, 0.5, 0.25))
    source, target = torch.zeros(1, 3, device=DEVICE), torch.full((1, 3), 7.0, device=DEVICE)
    assert float(mmd(source, target)) == pytest.approx(10 - 2 * across)
    # other bandwidths: 1/3 and 1
    two = sum(math.exp(-s) for s in (3, 1))
    assert float(mmd(source, target, factor=3.0, count=2)) == pytest.approx(4 - 2 * two)


def test_known_value_of_cdd():
    # classes at 0 and 1 in both domains: of the 12 ordered pairs of rows 8 are at distance 1, so the mean is 2/3
    x = torch.tensor([[0.0], [1.0]], device=DEVICE)
    apart = 10 - 2 * sum(math.exp(-1.5 * s) for s in (4, 2, 1, 0.5, 0.25))
    assert float(cdd(x, x)) == pytest.approx(-apart)
    # one bandwidth, and the domains at distance 1: D(a, a) = 2 - 2 e^{-1/w}
    source, target = torch.tensor([[0.0]], device=DEVICE), torch.tensor([[2.0]], device=DEVICE)
    assert float(cdd(source, target, count=1)) == pytest.approx(2 - 2 / math.e)


def test_known_value_of_infonce():
    # classes 0 and 1 at a right angle; the target lacks class 1, which still is a negative in the source
    x = torch.eye(2, device=DEVICE) * 3
    target = Centroids(x, torch.tensor([5.0, 0.0], device=DEVICE))
    away = math.log(1 + math.exp(-1 / 0.5))
    assert float(infonce(x, target, temperature=0.5)) == pytest.approx(away / 2)
    assert float(infonce(x, x, temperature=0.5)) == pytest.approx(away)


def test_known_values_of_the_margin():
    corner, root = math.sqrt(0.5), math.sqrt(3)
    source = torch.tensor([[2.0, 0.0], [1.0, root]], device=DEVICE)  # at 0 and 60 degrees
    target = torch.tensor([[0.0, 5.0], [1.0, root]], device=DEVICE)  # at 90 and 60 degrees
    assert float(intra_class(source, target)) == pytest.approx((2 + 0) / 2)
    # the centres lie at 45 and 60 degrees
    gap = math.hypot(corner - 0.5, corner - root / 2)
    assert float(inter_class(source, target)) == pytest.approx((1 - gap) ** 2, rel=1e-5)
    assert float(inter_class(source, target, distance=2.0)) == pytest.approx((2 - gap) ** 2, rel=1e-5)
    assert float(inter_class(source, target, distance=0.2)) == 0
    found = margin(source, target, distance=0.5, inter_weight=3.0)
    assert float(found) == pytest.approx(1 + 3 * (0.5 - gap) ** 2, rel=1e-5)


def test_inter_class_averages_over_the_domains_that_have_the_class():
    source = Centroids(torch.tensor([[1.0, 0.0], [9.0, 9.0]], device=DEVICE), torch.tensor([1.0, 0.0], device=DEVICE))
    target = Centroids(torch.tensor([[9.0, 9.0], [0.6, 0.8]], device=DEVICE), torch.tensor([0.0, 1.0], device=DEVICE))
    gap = math.hypot(0.4, 0.8)
    assert float(inter_class(source, target)) == pytest.approx((1 - gap) ** 2, rel=1e-5)
    assert float(margin(source, target)) == pytest.approx((1 - gap) ** 2, rel=1e-5)


@BY_NAME
@settings(max_examples=15)
@given(seed=SEEDS, sizes=SIZES)
def test_equals_the_definition_class_by_class(loss, seed, sizes):
    source, target = _case(seed, (sizes[0] + 1, sizes[1] + 1))
    source, target = _with_two_shared(source, target)
    torch.testing.assert_close(loss(source, target), PLAIN[loss](source, target))


@BY_NAME
@settings(max_examples=15)
@given(seed=SEEDS, sizes=SIZES)
def test_gradients_equal_those_of_the_definition(loss, seed, sizes):
    source, target = _with_two_shared(*_case(seed, (sizes[0] + 1, sizes[1] + 1)))
    inputs = source.values.requires_grad_(), target.values.requires_grad_()
    found, want = loss(source, target), PLAIN[loss](source, target)
    grads = torch.autograd.grad(found * 1.7, inputs)
    torch.testing.assert_close(grads, torch.autograd.grad(want * 1.7, inputs, materialize_grads=True))


@pytest.mark.parametrize("loss", [infonce, margin, intra_class, inter_class], ids=lambda loss: loss.__name__)
def test_gradcheck(loss):
    source, target = _with_two_shared(*_case(4, (5, 3)))
    inputs = source.values.requires_grad_(), target.values.requires_grad_()
    assert gradcheck(lambda s, t: loss(Centroids(s, source.mass), Centroids(t, target.mass)), inputs)


@BY_NAME
@given(seed=SEEDS, sizes=SIZES)
def test_renaming_the_classes_changes_nothing(loss, seed, sizes):
    source, target = _case(seed, sizes)
    order = torch.randperm(sizes[0], generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    renamed = (Centroids(c.values[order], c.mass[order]) for c in (source, target))
    torch.testing.assert_close(loss(*renamed), loss(source, target))


@BY_NAME
@given(seed=SEEDS, sizes=SIZES)
def test_the_domains_are_interchangeable(loss, seed, sizes):
    source, target = _case(seed, sizes)
    torch.testing.assert_close(loss(target, source), loss(source, target))


@BY_NAME
@given(seed=SEEDS, sizes=SIZES)
def test_a_class_that_both_lack_may_as_well_not_exist(loss, seed, sizes):
    source, target = _case(seed, sizes)
    kept = source.present | target.present
    kept[0] = True
    removed = (Centroids(c.values[kept], c.mass[kept]) for c in (source, target))
    torch.testing.assert_close(loss(*removed), loss(source, target))


@pytest.mark.parametrize("loss", [mmd, cdd, intra_class], ids=lambda loss: loss.__name__)
@given(seed=SEEDS, sizes=SIZES)
def test_a_class_that_one_lacks_takes_no_part(loss, seed, sizes):
    source, target = _with_two_shared(*_case(seed, (sizes[0] + 1, sizes[1])))
    shared = source.present & target.present
    removed = (Centroids(c.values[shared], c.mass[shared]) for c in (source, target))
    torch.testing.assert_close(loss(*removed), loss(source, target))


@BY_NAME
@given(seed=SEEDS, sizes=SIZES)
def test_a_bare_tensor_has_every_class_and_masses_beyond_zero_do_not_matter(loss, seed, sizes):
    source, target = _case(seed, sizes)
    rng = torch.Generator().manual_seed(seed)
    masses = torch.rand(2, sizes[0], generator=rng, dtype=torch.float64).to(DEVICE) + 1e-3
    want = loss(Centroids(source.values, masses[0]), Centroids(target.values, masses[1]))
    torch.testing.assert_close(loss(source.values, target.values), want)
    torch.testing.assert_close(loss(source.values, Centroids(target.values, masses[1])), want)


@pytest.mark.parametrize("loss", [infonce, margin, intra_class, inter_class], ids=lambda loss: loss.__name__)
@given(seed=SEEDS, sizes=SIZES)
def test_only_directions_matter(loss, seed, sizes):
    source, target = _case(seed, sizes)
    stretch = torch.rand(sizes[0], 1, generator=torch.Generator().manual_seed(seed)).to(DEVICE) * 9 + 0.1
    stretched = Centroids(source.values * stretch, source.mass)
    torch.testing.assert_close(loss(stretched, target), loss(source, target))


@pytest.mark.parametrize("loss", [mmd, cdd], ids=lambda loss: loss.__name__)
@given(seed=SEEDS, sizes=SIZES, scale=st.floats(0.01, 100))
def test_neither_scale_nor_place_matters_to_the_kernel(loss, seed, sizes, scale):
    source, target = _case(seed, sizes)
    moved = (Centroids(c.values * scale + 1, c.mass) for c in (source, target))
    torch.testing.assert_close(loss(*moved), loss(source, target), rtol=1e-6, atol=1e-8)


@given(SEEDS, SIZES)
def test_ranges(seed, sizes):
    source, target = _case(seed, sizes)
    assert mmd(source, target) >= -1e-12
    assert infonce(source, target) >= 0
    assert 0 <= intra_class(source, target) <= 4 + 1e-12
    assert 0 <= inter_class(source, target, distance=1.3) <= 1.3**2
    assert margin(source, target) >= 0
    assert mmd(source, source) == 0
    assert intra_class(source, source) == 0
    assert cdd(source, source) <= 0


@pytest.mark.parametrize("loss", [infonce, margin, intra_class, cdd, mmd], ids=lambda loss: loss.__name__)
def test_falls_as_the_same_classes_approach_each_other(loss):
    source = torch.eye(4, 8, dtype=torch.float64, device=DEVICE)
    other = torch.eye(4, 8, dtype=torch.float64, device=DEVICE).roll(4, 1)  # at right angles to all of them
    values = [
        float(loss(source, math.cos(angle) * source + math.sin(angle) * other))
        for angle in (1.5, 1.2, 0.9, 0.6, 0.3, 0)
    ]
    assert all(after < before for before, after in pairwise(values))


@pytest.mark.parametrize("loss", [infonce, cdd], ids=lambda loss: loss.__name__)
def test_pairing_the_wrong_classes_costs(loss):
    x = torch.eye(4, 8, dtype=torch.float64, device=DEVICE)
    assert loss(x, x.roll(1, 0)) > loss(x, x) + 0.1
    torch.testing.assert_close(mmd(x, x.roll(1, 0)), mmd(x, x))  # blind to it, as the docs say


@pytest.mark.parametrize("loss", [infonce, cdd, margin, inter_class], ids=lambda loss: loss.__name__)
def test_pushes_different_classes_apart(loss):
    apart = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, device=DEVICE)
    close = torch.tensor([[1.0, 0.0], [1.0, 0.2]], dtype=torch.float64, device=DEVICE)
    # a third class at a fixed place, so that the kernel's bandwidth has something to measure against
    third = torch.tensor([[-1.0, -1.0]], dtype=torch.float64, device=DEVICE)
    apart, close = torch.cat((apart, third)), torch.cat((close, third))
    assert loss(close, close) > loss(apart, apart) + 0.01


@pytest.mark.parametrize("wrong", [0.0, float("nan"), float("inf"), 1e30])
@BY_NAME
def test_rows_of_absent_classes_are_never_read(loss, wrong):
    results = []
    for junk in (1.0, wrong):
        source, target = _with_two_shared(*_case(4, (6, 3), torch.float32))
        source.mass[[3, 4]] = target.mass[[3, 5]] = 0.0
        values = [c.values.masked_fill(~c.present[:, None], junk).requires_grad_() for c in (source, target)]
        found = loss(Centroids(values[0], source.mass), Centroids(values[1], target.mass))
        results.append((found, *torch.autograd.grad(found, values)))
    torch.testing.assert_close(*results, rtol=0, atol=0)


@pytest.mark.parametrize("present", ["none", "source only", "different"])
@BY_NAME
def test_nothing_to_compare_is_exactly_zero_and_connected(loss, present):
    values = [c.values.requires_grad_() for c in _case(0, (3, 4), torch.float32)]
    zero, first, second = torch.zeros(3), torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 2, 0])
    masses = {"none": (zero, zero), "source only": (first, zero), "different": (first, second)}[present]
    if present == "different" and loss in (margin, inter_class):
        masses = first, zero  # two classes in all are two centres to keep apart
    found = loss(*(Centroids(x, mass.to(DEVICE)) for x, mass in zip(values, masses, strict=True)))
    assert torch.equal(found, torch.zeros_like(found))
    for grad in torch.autograd.grad(found, values):
        assert torch.equal(grad, torch.zeros_like(grad))


@BY_NAME
@pytest.mark.parametrize("value", [0.0, 0.3])
def test_equal_centroids_have_a_finite_gradient(loss, value):
    source = torch.full((3, 4), value, device=DEVICE, requires_grad=True)
    target = torch.full((3, 4), value, device=DEVICE, requires_grad=True)
    found = loss(source, target)
    assert torch.isfinite(found)
    for grad in torch.autograd.grad(found, (source, target)):
        assert torch.isfinite(grad).all()


@BY_NAME
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_dtypes_against_float64(loss, dtype):
    source, target = _with_two_shared(*_case(0, (6, 5), dtype))
    values = [c.values.requires_grad_() for c in (source, target)]
    wide = [c.values.detach().double().requires_grad_() for c in (source, target)]
    found = loss(source, target)
    want = loss(*(Centroids(x, c.mass.double()) for x, c in zip(wide, (source, target), strict=True)))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), want, rtol=1e-5, atol=1e-5)
    grads, exact = torch.autograd.grad(found, values), torch.autograd.grad(want, wide)
    assert [g.dtype for g in grads] == [dtype, dtype]
    torch.testing.assert_close([g.double() for g in grads], list(exact), rtol=torch.finfo(dtype).eps, atol=1e-5)


@BY_NAME
def test_autocast_does_not_reach_inside(loss):
    source, target = _with_two_shared(*_case(0, (6, 5), torch.float32))
    want = loss(source, target)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        found = loss(source, target)
    assert want != 0
    torch.testing.assert_close(found, want, rtol=0, atol=0)


@BY_NAME
def test_compiles_without_a_graph_break(loss):
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    source, target = _case(0, (6, 5), torch.float32)
    values = source.values.requires_grad_(), target.values.requires_grad_()
    for missing in (0, 1, 6):
        mass = (torch.arange(6, device=DEVICE) >= missing).float()
        results = []
        for run in (compiled, loss):
            found = run(Centroids(values[0], mass), Centroids(values[1], mass.flip(0)))
            results.append((found, *torch.autograd.grad(found, values)))
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-6)


_S, _M = torch.zeros(4, 3), torch.zeros(4)


@BY_NAME
@pytest.mark.parametrize(
    ("source", "target", "kind", "text"),
    [
        (_S[0], _S, ValueError, "`source` must have shape (K, D); got (3,)."),
        (_S, _S[1:], ValueError, "`target` must have shape (K=4, D=3); got (3, 3)."),
        (_S, _S[:, 1:], ValueError, "`target` must have shape (K=4, D=3); got (4, 2)."),
        (Centroids(_S, _M[1:]), _S, ValueError, "`source.mass` must have shape (K=4); got (3,)."),
        (_S, Centroids(_S, _M[1:]), ValueError, "`target.mass` must have shape (K=4); got (3,)."),
        (_S.long(), _S, TypeError, "`source` must be of dtype float; got torch.int64."),
        (_S, _S.int(), TypeError, "`target` must be of dtype float; got torch.int32."),
        (
            _S, _S.to("meta"), ValueError,
            "all tensors must lie on one device; got `source` on cpu, `target` on meta.",
        ),
    ],
)  # fmt: skip
def test_sets_that_do_not_fit(loss, source, target, kind, text):
    with _raises(kind, f"{loss.__name__}: {text}"):
        loss(source, target)


_DISTANCE = "`distance` is one of unit vectors and must lie in [0, 2]; got"


@pytest.mark.parametrize(
    ("loss", "options", "text"),
    [
        (mmd, {"factor": 1.0}, "mmd: `factor` must be greater than 1; got 1.0."),
        (cdd, {"count": 0}, "cdd: `count` must be at least 1; got 0."),
        (infonce, {"temperature": 0.0}, "infonce: `temperature` must be greater than 0; got 0.0."),
        (infonce, {"temperature": float("nan")}, "infonce: `temperature` must be greater than 0; got nan."),
        (inter_class, {"distance": 2.5}, f"inter_class: {_DISTANCE} 2.5."),
        (inter_class, {"distance": -0.5}, f"inter_class: {_DISTANCE} -0.5."),
        (margin, {"distance": 2.5}, f"margin: {_DISTANCE} 2.5."),
        (margin, {"inter_weight": -1.0}, "margin: `inter_weight` must be at least 0; got -1.0."),
    ],
)
def test_options_out_of_range(loss, options, text):
    with _raises(ValueError, text):
        loss(_S, _S, **options)


@pytest.mark.parametrize("loss", [infonce, margin, intra_class, inter_class])
def test_a_centroid_of_length_0_has_no_direction_and_no_gradient(loss):
    source = torch.randn(4, 3, dtype=torch.float64)
    source[1] = 0
    source.requires_grad_()
    target = torch.ones(4, 3, dtype=torch.float64)
    loss(source, target).backward()
    assert (source.grad[1] == 0).all()
    assert (source.grad[0] != 0).any()
    assert source.grad.abs().max() < 1e3
