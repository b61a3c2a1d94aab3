import itertools
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.functional import Centroids
from dastc.functional.alignment import inter_class, intra_class
from dastc.losses import CentroidAlignmentLoss

SEEDS = st.integers(0, 2**31 - 1)
OBJECTIVES = ["infonce", "cdd", "mmd", "margin"]
CLASS_AWARE = ["infonce", "cdd", "margin"]
INTRA = CentroidAlignmentLoss("margin", inter_weight=0.0)  # pulls, and pushes nothing
LOSSES = [*(CentroidAlignmentLoss(name) for name in OBJECTIVES), INTRA, inter_class]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=[*OBJECTIVES, "intra", "inter"])


def _set(values, present=None):
    values = torch.as_tensor(values)
    return Centroids(values, torch.ones(len(values)) if present is None else torch.as_tensor(present).float())


def _pair(seed=0, k=4, d=5, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return [_set(torch.randn(k, d, generator=rng, dtype=torch.float64).to(dtype)) for _ in range(2)]


def _kernel(a, b, sigmas):
    return sum(math.exp(-float((a - b).square().sum()) / s) for s in sigmas)


def _sigmas(rows, factor=2.0, count=5):
    n = len(rows)
    mean = sum(float((a - b).square().sum()) for a in rows for b in rows) / (n * (n - 1))
    return [mean * factor ** (m - count // 2) for m in range(count)]


# --- values


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_infonce_by_hand(temperature):
    eye = _set(torch.eye(2).double())
    loss = CentroidAlignmentLoss("infonce", temperature=temperature)(eye, eye)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-1 / temperature)))


def test_infonce_is_a_mean_of_both_directions():
    source, target = _pair(3)
    s, t = (x.values / x.values.norm(dim=1, keepdim=True) for x in (source, target))
    cosine = (s @ t.T / 0.1).exp()
    ways = [cosine.diag() / cosine.sum(dim) for dim in (0, 1)]
    expected = -sum(w.log().mean() for w in ways) / 2
    torch.testing.assert_close(CentroidAlignmentLoss()(source, target), expected)


@pytest.mark.parametrize(("factor", "count"), [(2.0, 5), (3.0, 5), (2.0, 1), (1.5, 4)])
def test_mmd_and_cdd_by_hand(factor, count):
    source, target = _pair(1, k=3)
    s, t = source.values, target.values
    sigmas = _sigmas([*s, *t], factor, count)

    def k(a, b):
        return _kernel(a, b, sigmas)

    pairs = list(itertools.product(range(3), repeat=2))
    mmd = sum(k(s[a], s[b]) + k(t[a], t[b]) - 2 * k(s[a], t[b]) for a, b in pairs) / 9
    loss = CentroidAlignmentLoss("mmd", factor=factor, count=count)(source, target)
    assert float(loss) == pytest.approx(mmd)

    def apart(a, b):
        return k(s[a], s[a]) + k(t[b], t[b]) - 2 * k(s[a], t[b])

    cdd = sum(apart(a, a) for a in range(3)) / 3 - sum(apart(a, b) for a, b in pairs if a != b) / 6
    loss = CentroidAlignmentLoss("cdd", factor=factor, count=count)(source, target)
    assert float(loss) == pytest.approx(cdd)


def test_intra_and_inter_by_hand():
    half, root = 0.5, math.sqrt(3) / 2
    source = _set([[1.0, 0.0], [half, root]])  # 60 degrees: unit vectors at distance 1
    target = _set([[0.0, 2.0], [half, root]])
    assert float(INTRA(source, target)) == pytest.approx(1.0)  # 2 and 0
    assert float(inter_class(source, source, distance=1.5)) == pytest.approx(0.25)
    assert float(inter_class(source, source)) == pytest.approx(0.0, abs=1e-6)
    centre = torch.tensor([1.0, 1.0]) / math.sqrt(2)  # of class 0 over both domains
    gap = float((centre - source.values[1]).norm())
    assert float(inter_class(source, target)) == pytest.approx((1 - gap) ** 2)


@pytest.mark.parametrize(("distance", "weight"), [(1.0, 1.0), (2.0, 0.5), (0.0, 3.0), (1.5, 0.0)])
def test_margin_is_the_sum_of_both(distance, weight):
    source, target = _pair(2)
    loss = CentroidAlignmentLoss("margin", distance=distance, inter_weight=weight)(source, target)
    expected = intra_class(source, target) + weight * inter_class(source, target, distance=distance)
    torch.testing.assert_close(loss, expected)


def test_infonce_is_the_default():
    source, target = _pair()
    assert torch.equal(CentroidAlignmentLoss()(source, target), CentroidAlignmentLoss("infonce")(source, target))
    assert len({round(float(CentroidAlignmentLoss(name)(source, target)), 6) for name in OBJECTIVES}) == 4


def test_defaults_are_those_that_are_documented():
    source, target = _pair()
    named = {"temperature": 0.1, "distance": 1.0, "inter_weight": 1.0, "factor": 2.0, "count": 5}
    for name in OBJECTIVES:
        plain, spelt = CentroidAlignmentLoss(name), CentroidAlignmentLoss(name, **named)
        assert torch.equal(plain(source, target), spelt(source, target))
    # tight enough for the margin to bite
    close = [_set(x.values + 3) for x in _pair()]
    assert torch.equal(inter_class(*close), inter_class(*close, distance=1.0))
    assert not torch.equal(inter_class(*close), inter_class(*close, distance=0.9))


@pytest.mark.parametrize(
    ("align", "change"),
    [
        ("infonce", {"temperature": 0.2}),
        ("cdd", {"factor": 3.0}),
        ("cdd", {"count": 3}),
        ("mmd", {"factor": 3.0}),
        ("mmd", {"count": 3}),
        ("margin", {"distance": 1.7}),
        ("margin", {"inter_weight": 0.3}),
    ],
)
def test_each_argument_matters_to_its_objective_only(align, change):
    close = [_set(x.values + 1) for x in _pair()]
    for name in OBJECTIVES:
        same = torch.equal(CentroidAlignmentLoss(name)(*close), CentroidAlignmentLoss(name, **change)(*close))
        others = {"cdd", "mmd"} if align in ("cdd", "mmd") else {align}
        assert same == (name not in others)


# --- what they mean


@each_loss
@given(seed=SEEDS)
def test_domains_and_names_of_classes_do_not_matter(loss, seed):
    source, target = _pair(seed)
    order = torch.randperm(4, generator=torch.Generator().manual_seed(seed))
    value = loss(source, target)
    torch.testing.assert_close(loss(target, source), value)
    torch.testing.assert_close(loss(_set(source.values[order]), _set(target.values[order])), value)


@pytest.mark.parametrize("align", OBJECTIVES)
def test_only_mmd_ignores_which_class_is_which(align):
    source, target = _pair()
    loss = CentroidAlignmentLoss(align)
    swapped = _set(target.values[torch.tensor([1, 0, 3, 2])])
    same = torch.isclose(loss(source, swapped), loss(source, target), rtol=1e-9)
    assert bool(same) == (align == "mmd")


@each_loss
@given(seed=SEEDS, absent=st.sampled_from([(0,), (1, 3), (0, 1, 2)]))
def test_a_class_that_neither_domain_has_is_as_if_removed(loss, seed, absent):
    source, target = _pair(seed)
    mask = torch.ones(4)
    mask[list(absent)] = 0
    keep = mask.bool()
    poison = [_set(x.values.where(keep[:, None], float("nan")), mask) for x in (source, target)]
    torch.testing.assert_close(loss(*poison), loss(_set(source.values[keep]), _set(target.values[keep])))


@pytest.mark.parametrize("align", ["cdd", "mmd", "intra"])
def test_a_class_of_one_domain_is_as_if_removed(align):
    loss = INTRA if align == "intra" else CentroidAlignmentLoss(align)
    source, target = _pair()
    one_sided = Centroids(target.values, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    keep = torch.tensor([0, 2, 3])
    torch.testing.assert_close(loss(source, one_sided), loss(_set(source.values[keep]), _set(target.values[keep])))


def test_a_class_of_one_domain_repels():
    source, target = _set(torch.eye(3)), Centroids(torch.eye(3), torch.tensor([1.0, 1.0, 0.0]))
    near = _set(torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 0.1, 0]]))  # the extra class comes close to class 0
    for loss in (CentroidAlignmentLoss("infonce"), CentroidAlignmentLoss("margin"), inter_class):
        assert loss(near, target) > loss(source, target) + 0.1


def test_infonce_counts_shared_classes_only():
    source = _set(torch.eye(3))
    target = Centroids(torch.eye(3), torch.tensor([1.0, 1.0, 0.0]))
    # toward the target: two classes to choose from; toward the source: three
    expected = (math.log(1 + math.exp(-10)) + math.log(1 + 2 * math.exp(-10))) / 2
    assert float(CentroidAlignmentLoss()(source, target)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("loss", [INTRA, CentroidAlignmentLoss("infonce"), CentroidAlignmentLoss("cdd")])
@given(seed=SEEDS, part=st.floats(0.2, 0.8))
def test_moving_the_domains_together_helps(loss, seed, part):
    rng = torch.Generator().manual_seed(seed)
    centres = torch.linalg.qr(torch.randn(5, 5, generator=rng, dtype=torch.float64))[0][:4]
    away = torch.randn(1, 5, generator=rng, dtype=torch.float64)
    source, target = _set(centres), _set(centres + away)
    closer = _set(centres + (1 - part) * away)
    assert loss(source, closer) < loss(source, target)


@pytest.mark.parametrize("align", OBJECTIVES)
def test_descent_joins_domains_by_class_unless_it_is_mmd(align):
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    turn = torch.tensor([1, 2, 3, 0])
    source, target = start.clone().requires_grad_(), (start[turn] + 0.01).requires_grad_()  # the classes are mixed up
    loss, optimiser = CentroidAlignmentLoss(align), torch.optim.Adam([source, target], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss(_set(source), _set(target)).backward()
        optimiser.step()
    s, t = (torch.nn.functional.normalize(x.detach(), dim=1) for x in (source, target))
    cosine = s @ t.T
    if align == "mmd":  # it is content as long as each centroid has some partner
        assert torch.equal(cosine.argmax(1), turn.argsort())
        assert loss(_set(source), _set(target)).abs() < 1e-2
        return
    assert torch.equal(cosine.argmax(1), torch.arange(4))
    assert cosine.diagonal().min() > 0.8
    assert (cosine - 2 * torch.eye(4)).max() < 0.6


@pytest.mark.parametrize("align", ["infonce", "cdd", "margin"])
def test_descent_separates_classes_that_start_alike(align):
    rng = torch.Generator().manual_seed(0)
    source, target = (1 + 0.05 * torch.randn(2, 3, 8, generator=rng)).unbind()
    source.requires_grad_()
    target.requires_grad_()
    loss, optimiser = CentroidAlignmentLoss(align), torch.optim.Adam([source, target], 0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss(_set(source), _set(target)).backward()
        optimiser.step()
    s, t = (torch.nn.functional.normalize(x.detach(), dim=1) for x in (source, target))
    different = ~torch.eye(3, dtype=torch.bool)
    assert max(float((a @ b.T)[different].max()) for a, b in ((s, s), (s, t), (t, t))) < 0.8
    assert (s @ t.T).diagonal().min() > 0.9


# --- nothing to compare


@each_loss
@pytest.mark.parametrize("shared", ["none", "disjoint"])
def test_without_a_shared_class_it_is_zero_and_connected(loss, shared):
    source, target = _pair(k=2)
    leaves = [x.values.clone().requires_grad_() for x in (source, target)]
    masses = ([0, 0], [0, 0]) if shared == "none" else ([1, 0], [0, 1])
    value = loss(*(_set(x, m) for x, m in zip(leaves, masses, strict=True)))
    value.backward()
    pushes = loss is inter_class or (loss is not INTRA and loss.align == "margin")
    for x in leaves:
        assert x.grad.isfinite().all()
        if shared == "none" or not pushes:  # two classes in all, one in each domain, may still repel each other
            assert x.grad.eq(0).all()
    if shared == "none" or not pushes:
        assert value == 0


@each_loss
def test_gradients_stay_finite_where_formulas_end(loss):
    same = torch.ones(3, 4, dtype=torch.float64)
    for values in ((same, same), (same, -same), (torch.zeros(3, 4).double(), same)):
        leaves = [x.clone().requires_grad_() for x in values]
        value = loss(*map(_set, leaves))
        value.backward()
        assert value.isfinite()
        assert all(x.grad.isfinite().all() for x in leaves)


@each_loss
def test_one_class(loss):
    source, target = _pair(k=1)
    assert loss(source, target).isfinite()
    if loss is inter_class:
        assert loss(source, target) == 0


# --- numerics


@each_loss
def test_gradcheck(loss):
    source, target = _pair()
    mass = torch.tensor([1.0, 0.0, 1.0, 1.0])
    close = [x.values + 0.5 for x in (source, target)]  # the margin bites
    leaves = [x.requires_grad_() for x in close]
    if getattr(loss, "align", "") in ("mmd", "cdd"):
        # the bandwidth is a constant for the gradient, by the definition of the objective: compare with it held fixed
        kept = [x.detach()[mass.bool()] for x in leaves]
        sigmas = torch.tensor(_sigmas([*kept[0], *kept[1]]), dtype=torch.float64)

        def held(s, t):
            rows = torch.cat((s[mass.bool()], t[mass.bool()]))
            kernel = torch.exp(-(rows[:, None] - rows).square().sum(-1, keepdim=True) / sigmas).sum(-1)
            ss, tt, st_ = kernel[:3, :3], kernel[3:, 3:], kernel[:3, 3:]
            if loss.align == "mmd":
                return (ss + tt - st_ - st_.T).mean()
            distance = ss.diag()[:, None] + tt.diag() - 2 * st_
            return distance.diag().mean() - (distance.sum() - distance.diag().sum()) / 6

        value, expected = loss(*(Centroids(x, mass) for x in leaves)), held(*leaves)
        torch.testing.assert_close(value, expected)
        for mine, its in zip(torch.autograd.grad(value, leaves), torch.autograd.grad(expected, leaves), strict=True):
            torch.testing.assert_close(mine, its)
        return
    assert gradcheck(lambda s, t: loss(Centroids(s, mass), Centroids(t, mass)), leaves)


@each_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtypes(loss, dtype):
    source, target = (Centroids(x.values.to(dtype).requires_grad_(), x.mass) for x in _pair())
    value = loss(source, target)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value.double(), loss(*_pair()), rtol=0.05, atol=0.05)
    value.backward()
    assert source.values.grad.dtype == dtype


@each_loss
@pytest.mark.parametrize("absent", [0, 1, 4])
def test_it_compiles_without_a_break(loss, absent):
    source, target = _pair(dtype=torch.float32)
    mass = torch.ones(4)
    mass[:absent] = 0

    def forward(s, t):
        return loss(Centroids(s, mass), Centroids(t, mass))

    results = []
    for function in (forward, torch.compile(forward, fullgraph=True, backend="aot_eager")):
        leaves = [(x.values + 0.5).requires_grad_() for x in (source, target)]
        value = function(*leaves)
        results.append((value, *torch.autograd.grad(value, leaves, torch.tensor(1.3))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


# --- arguments


def test_extra_repr_shows_the_arguments():
    loss = CentroidAlignmentLoss("cdd", temperature=0.2, distance=0.5, inter_weight=2.0, factor=3.0, count=4)
    assert loss.extra_repr() == "'cdd', temperature=0.2, distance=0.5, inter_weight=2.0, factor=3.0, count=4"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"align": "coral"}, "`align` must be one of 'infonce', 'cdd', 'mmd', 'margin'; got 'coral'."),
        ({"temperature": 0.0}, "`temperature` must be greater than 0; got 0.0."),
        ({"temperature": float("nan")}, "`temperature` must be greater than 0; got nan."),
        ({"factor": 1.0}, "`factor` must be greater than 1; got 1.0."),
        ({"distance": 2.5}, "`distance` must lie in [0, 2]; got 2.5."),
        ({"inter_weight": -1.0}, "`inter_weight` must be at least 0; got -1.0."),
        ({"count": 0}, "`count` must be at least 1; got 0."),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape('CentroidAlignmentLoss: ' + message)}$"):
        CentroidAlignmentLoss(**kwargs)


def test_inter_class_distance_out_of_range():
    with pytest.raises(ValueError, match=r"^inter_class: `distance` .* must lie in \[0, 2\]; got -0\.5\.$"):
        inter_class(*_pair(), distance=-0.5)


@each_loss
def test_sets_that_do_not_fit(loss):
    with pytest.raises(ValueError, match=r": `target` must have shape \(K=4, D=5\); got \(4, 6\)\.$"):
        loss(_pair()[0], _set(torch.zeros(4, 6)))
    with pytest.raises(ValueError, match=r": `source\.mass` must have shape \(K=4\); got \(3,\)\.$"):
        loss(Centroids(torch.zeros(4, 5), torch.zeros(3)), _pair()[1])
    with pytest.raises(TypeError, match=r": `source` must be of dtype float; got torch\.int64\.$"):
        loss(_set(torch.zeros(4, 5).long()), _pair()[1])
