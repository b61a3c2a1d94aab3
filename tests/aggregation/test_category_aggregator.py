import itertools
import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc import debug_checks
from dastc.aggregation import CategoryAggregator
from dastc.aggregation.category_aggregator import AggregationWeights
from dastc.functional import Centroids

SEEDS = st.integers(0, 2**31 - 1)
SWITCHES = st.fixed_dictionaries(
    {name: st.booleans() for name in ("agreement", "confidence", "temporal", "persistence")}
)
K = 4


def _case(seed=0, b=2, t=3, d=5, h=3, w=4, scale=2, ignored=0.15, dtype=torch.float64):
    """Labels that mostly agree with the logits, so that little of the input is left out."""
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(b, t, d, h, w, generator=rng, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, K, (b, t, h, w), generator=rng)
    logits = torch.randn(b, t, K, h, w, generator=rng, dtype=torch.float64)
    logits = logits + 2 * F.one_hot(labels, K).movedim(-1, 2)
    labels[torch.rand(labels.shape, generator=rng) < ignored] = 255
    labels = labels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    weights = torch.rand(labels.shape, generator=rng, dtype=torch.float64)
    flow = 0.6 * torch.randn(b, t - 1, 2, h, w, generator=rng, dtype=torch.float64)
    return features, labels, {"logits": logits.to(dtype), "weights": weights, "flow": flow}


def _places(sizes):
    return itertools.product(*map(range, sizes))


def _persists(cells, flow, s, f, i, j):
    """Say whether nothing contradicts a label: the cell it came from, rounded to the nearest, has it or none."""
    h, w = len(cells[s][f]), len(cells[s][f][0])
    x, y = j + float(flow[s, f - 1, 0, i, j]), i + float(flow[s, f - 1, 1, i, j])
    if not (0 <= x <= w - 1 and 0 <= y <= h - 1):
        return True
    return cells[s][f - 1][round(y)][round(x)] in (cells[s][f][i][j], 255)


def _plain_time(cells, entropy, sizes, temporal):
    time = torch.zeros(*sizes, K, dtype=torch.float64)
    for s, k in _places((sizes[0], K)):
        shown = [f for f in range(sizes[1]) if any(k in row for row in cells[s][f])]
        sure = {f: 1.0 for f in shown}
        if entropy and temporal:
            sure = {f: math.exp(-sum(entropy[s, f, k]) / len(entropy[s, f, k])) for f in shown}
        for f in shown:
            time[s, f, k] = sure[f] * len(shown) / sum(sure.values())
    return time


def _plain(features, labels, logits=None, weights=None, flow=None, *, agreement, confidence, temporal, persistence):
    """The same by loops over samples, frames, cells and classes; labels agree within each cell."""
    b, t, d, h, w = features.shape
    scale = labels.shape[-1] // w
    cells = labels[..., ::scale, ::scale].tolist()
    space = torch.ones(b, t, h, w, dtype=torch.float64)
    if weights is not None:
        space = weights.unflatten(2, (h, scale)).unflatten(4, (w, scale)).mean(dim=(3, 5))
    entropy = {}
    for s, f, i, j in _places((b, t, h, w)):
        k = cells[s][f][i][j]
        if logits is not None:
            e = [math.exp(float(z)) for z in logits[s, f, :, i, j]]
            p = [x / sum(e) for x in e]
            entropy.setdefault((s, f, k), []).append(-sum(x * math.log(x) for x in p) / math.log(K))
            space[s, f, i, j] *= (max(p) if confidence else 1) * (p.index(max(p)) == k or not agreement)
        if flow is not None and persistence and f > 0:
            space[s, f, i, j] *= _persists(cells, flow, s, f, i, j)
    time = _plain_time(cells, entropy, (b, t), temporal)
    sums, mass = torch.zeros(K, d, dtype=torch.float64), torch.zeros(K, dtype=torch.float64)
    for s, f, i, j in _places((b, t, h, w)):
        k = cells[s][f][i][j]
        if k < K:
            m = space[s, f, i, j] * time[s, f, k]
            sums[k] += m * features[s, f, :, i, j]
            mass[k] += m
    values = torch.where(mass[:, None] > 0, sums / mass.clamp(min=1e-300)[:, None], 0.0)
    return Centroids(values, mass), AggregationWeights(space, time)


# --- values


def test_averages_by_hand():
    features = torch.tensor([[[[1.0, 3.0, 7.0, 50.0]]]])
    centroids = CategoryAggregator(3)(features, torch.tensor([[[0, 0, 2, 255]]]))
    assert centroids.values.flatten().tolist() == [2, 0, 7]
    assert centroids.mass.tolist() == [2, 0, 1]


def test_agreement_and_confidence_by_hand():
    features, labels = torch.tensor([[[[1.0, 3.0, 7.0]]]]), torch.tensor([[[0, 0, 0]]])
    p = torch.tensor([0.6, 0.9, 0.2])  # of class 0; the third place is predicted as class 1
    logits = torch.stack((p, 1 - p)).log().view(1, 2, 1, 3)

    def centroid(**kwargs):
        return float(CategoryAggregator(2, **kwargs)(features, labels, logits=logits).values[0])

    assert centroid() == pytest.approx((0.6 * 1 + 0.9 * 3) / 1.5)
    assert centroid(confidence=False) == pytest.approx(2)
    assert centroid(agreement=False) == pytest.approx((0.6 * 1 + 0.9 * 3 + 0.8 * 7) / 2.3)
    assert centroid(agreement=False, confidence=False) == pytest.approx(11 / 3)


def test_frame_weights_by_hand():
    # frame 0 is torn between both classes (entropy 1), frame 1 is certain (entropy 0)
    features, labels = torch.tensor([2.0, 8.0]).view(1, 2, 1, 1, 1), torch.zeros(1, 2, 1, 1).long()
    logits = torch.tensor([[0.0, 0.0], [60.0, -60.0]]).view(1, 2, 2, 1, 1)
    low = math.exp(-1)
    aggregator = CategoryAggregator(2, agreement=False, confidence=False)
    centroids, weights = aggregator(features, labels, logits=logits, return_weights=True)
    expected = torch.tensor([[2 * low / (1 + low), 0], [2 / (1 + low), 0]]).unsqueeze(0)
    torch.testing.assert_close(weights.time, expected, atol=1e-5, rtol=1e-5)
    assert float(centroids.values[0]) == pytest.approx((2 * low + 8) / (1 + low), rel=1e-5)
    assert float(centroids.mass[0]) == pytest.approx(2, rel=1e-5)
    same = CategoryAggregator(2, agreement=False, confidence=False, temporal=False)
    assert float(same(features, labels, logits=logits).values[0]) == pytest.approx(5)


def test_persistence_by_hand():
    features = torch.tensor([[10.0, 20.0, 30.0], [1.0, 2.0, 4.0]]).view(1, 2, 1, 1, 3)
    labels = torch.tensor([[0, 1, 255], [1, 0, 0]]).view(1, 2, 1, 3)
    flow = torch.tensor([-1.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 1, 3)
    # cell 0 comes from outside, cell 1 was 0 and still is, cell 2 was 1 and is 0 now
    centroids, weights = CategoryAggregator(2)(features, labels, flow=flow, return_weights=True)
    assert weights.space.flatten().tolist() == [1, 1, 1, 1, 1, 0]
    assert centroids.values.flatten().tolist() == [6, 10.5]
    assert CategoryAggregator(2, persistence=False)(features, labels, flow=flow).mass.tolist() == [3, 2]
    # an unlabelled past cannot contradict
    still = CategoryAggregator(2)(features, labels, flow=torch.zeros_like(flow), return_weights=True)[1]
    assert still.space.flatten().tolist() == [1, 1, 1, 0, 0, 1]


@given(SEEDS, SWITCHES, st.sets(st.sampled_from(["logits", "weights", "flow"])), st.integers(1, 3), st.integers(1, 3))
def test_it_equals_a_plain_loop(seed, switches, given_, t, scale):
    features, labels, extras = _case(seed, t=t, scale=scale)
    extras = {name: x for name, x in extras.items() if name in given_}
    found, weights = CategoryAggregator(K, **switches)(features, labels, **extras, return_weights=True)
    expected, by_hand = _plain(features, labels, **extras, **switches)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(found.mass, expected.mass)
    assert torch.equal(found.present, expected.present)
    torch.testing.assert_close(weights.space.double(), by_hand.space)
    torch.testing.assert_close(weights.time.double(), by_hand.time)


@pytest.mark.parametrize("seed", range(3))
def test_it_equals_a_plain_loop_with_everything_on(seed):
    features, labels, extras = _case(seed)
    found = CategoryAggregator(K)(features, labels, **extras)
    everything = dict.fromkeys(("agreement", "confidence", "temporal", "persistence"), True)
    expected, _ = _plain(features, labels, **extras, **everything)
    torch.testing.assert_close(found.values, expected.values)
    torch.testing.assert_close(found.mass, expected.mass)


@given(SEEDS, SWITCHES)
def test_the_weights_explain_the_result(seed, switches):
    features, labels, extras = _case(seed, scale=1)
    aggregator = CategoryAggregator(K, **switches)
    centroids, (space, time) = aggregator(features, labels, **extras, return_weights=True)
    assert ((space >= 0) & (space <= 1)).all()
    for k in range(K):
        shown = (labels == k).flatten(2).any(2)
        assert time[..., k][~shown].eq(0).all()
        assert time[..., k][shown].gt(0).all()
        torch.testing.assert_close(time[..., k].sum(1), shown.sum(1).double())  # 1 on average
        m = space * time[..., k, None, None] * (labels == k)
        torch.testing.assert_close(centroids.mass[k], m.sum())
        torch.testing.assert_close(centroids.values[k] * m.sum(), (m.unsqueeze(2) * features).sum(dim=(0, 1, 3, 4)))
    plain = aggregator(features, labels, **extras)
    assert torch.equal(plain.values, centroids.values)


@given(SEEDS, SWITCHES)
def test_an_image_is_a_clip_of_one_frame(seed, switches):
    features, labels, extras = _case(seed, t=1)
    del extras["flow"]
    aggregator = CategoryAggregator(K, **switches)
    clip, clip_weights = aggregator(features, labels, **extras, return_weights=True)
    image, image_weights = aggregator(
        features[:, 0], labels[:, 0], **{name: x[:, 0] for name, x in extras.items()}, return_weights=True
    )
    for a, b in zip((*clip, *clip_weights), (*image, *image_weights), strict=True):
        assert torch.equal(a, b)
    with_flow = aggregator(features, labels, **extras, flow=torch.zeros(2, 0, 2, 3, 4))
    assert torch.equal(with_flow.values, clip.values)


@given(SEEDS, SWITCHES)
def test_names_of_classes_do_not_matter(seed, switches):
    features, labels, extras = _case(seed)
    order = torch.randperm(K, generator=torch.Generator().manual_seed(seed))
    renamed = torch.cat((order, torch.full((252,), 255)))[labels]
    logits = torch.empty_like(extras["logits"])
    logits[:, :, order] = extras["logits"]
    aggregator = CategoryAggregator(K, **switches)
    before = aggregator(features, labels, **extras)
    after = aggregator(features, renamed, **(extras | {"logits": logits}))
    torch.testing.assert_close(after.values[order], before.values)
    torch.testing.assert_close(after.mass[order], before.mass)


@given(SEEDS)
def test_samples_add_up(seed):
    features, labels, extras = _case(seed, b=3)
    aggregator = CategoryAggregator(K)
    each = [
        aggregator(features[i : i + 1], labels[i : i + 1], **{n: x[i : i + 1] for n, x in extras.items()})
        for i in range(3)
    ]
    mass = sum(c.mass for c in each)
    sums = sum(c.values * c.mass[:, None] for c in each)
    whole = aggregator(features, labels, **extras)
    torch.testing.assert_close(whole.mass, mass)
    torch.testing.assert_close(whole.values * mass[:, None], sums)


def test_uncertain_frames_count_less_per_class():
    features, labels, extras = _case(b=1, t=2, ignored=0)
    labels[:] = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])  # half and half in both frames
    logits = torch.zeros_like(extras["logits"])
    logits[:, 0, 0, :, :2] = 6  # frame 0 is sure of class 0, frame 1 of class 1
    logits[:, 1, 1, :, 2:] = 6
    _, weights = CategoryAggregator(K)(features, labels, logits=logits, return_weights=True)
    assert weights.time[0, 0, 0] > 1.3 > 0.7 > weights.time[0, 1, 0]
    assert weights.time[0, 1, 1] > 1.3 > 0.7 > weights.time[0, 0, 1]


def test_a_frame_without_the_class_has_no_say():
    features = torch.tensor([1.0, 5.0, 9.0]).view(1, 3, 1, 1, 1)
    labels = torch.tensor([0, 1, 0]).view(1, 3, 1, 1)
    aggregator = CategoryAggregator(3, agreement=False)
    centroids, weights = aggregator(features, labels, logits=torch.zeros(1, 3, 3, 1, 1), return_weights=True)
    assert weights.time[0].tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    torch.testing.assert_close(centroids.values.flatten(), torch.tensor([5.0, 5.0, 0.0]))


def test_classes_that_are_absent():
    features, labels, extras = _case()
    labels = labels.where(labels != 2, 255)
    centroids = CategoryAggregator(K + 1)(
        features, labels, **(extras | {"logits": F.pad(extras["logits"], (0, 0, 0, 0, 0, 1))})
    )
    assert centroids.present.tolist() == [True, True, False, True, False]
    assert centroids.values[[2, 4]].eq(0).all()


@pytest.mark.parametrize("everything", ["logits weights flow", ""])
@pytest.mark.parametrize("nothing", ["ignored", "weightless"])
def test_nothing_to_average_gives_rows_of_zero_with_gradient(everything, nothing):
    features, labels, extras = _case()
    extras = {name: x for name, x in extras.items() if name in everything}
    if nothing == "ignored":
        labels = torch.full_like(labels, 255)
    else:
        extras["weights"] = torch.zeros(labels.shape, dtype=torch.float64)
    centroids = CategoryAggregator(K)(features.requires_grad_(), labels, **extras)
    assert centroids.values.eq(0).all()
    assert centroids.mass.eq(0).all()
    centroids.values.backward(torch.randn(K, 5, dtype=torch.float64))
    assert features.grad.eq(0).all()


@pytest.mark.parametrize(
    ("least", "present"), [(0.0, [1, 1]), (2.0, [0, 1]), (2.5, [0, 1]), (3.0, [0, 1]), (3.1, [0, 0])]
)
def test_a_class_with_too_little_behind_it_counts_as_absent(least, present):
    features, labels = torch.ones(1, 1, 1, 4), torch.tensor([[[0, 1, 1, 1]]])
    centroids = CategoryAggregator(2, min_mass=least)(features, labels)
    assert centroids.values.flatten().tolist() == present
    assert centroids.mass.tolist() == [present[0] * 1, present[1] * 3]


# --- resolutions


def test_each_cell_takes_the_label_at_its_centre_and_the_mean_weight():
    labels = torch.tensor([[[0, 0, 0], [0, 1, 0], [0, 0, 0]]])
    weights = torch.arange(9.0).view(1, 3, 3) / 8
    centroids = CategoryAggregator(2)(torch.ones(1, 1, 1, 1), labels, weights=weights)
    assert centroids.mass.tolist() == [0, 0.5]


def test_logits_are_brought_to_the_grid_before_the_softmax():
    features, labels, extras = _case(scale=1)
    small = extras["logits"][..., ::2, ::2]
    large = F.interpolate(small.flatten(0, 1), size=(3, 4), mode="bilinear", align_corners=False).view(2, 3, K, 3, 4)
    aggregator = CategoryAggregator(K)
    left, right = (aggregator(features, labels, logits=x, return_weights=True) for x in (small, large))
    for a, b in zip((*left[0], *left[1]), (*right[0], *right[1]), strict=True):
        torch.testing.assert_close(a, b)


def test_flow_is_brought_to_the_grid_with_its_vectors():
    features, labels, _ = _case(h=3, w=4, scale=2, ignored=0)
    full = torch.tensor([-2.0, 2.0]).view(1, 1, 2, 1, 1).expand(2, 2, 2, 6, 8)
    aggregator = CategoryAggregator(K)
    on_grid = aggregator(features, labels, flow=full[..., ::2, ::2] / 2, return_weights=True)[1].space
    assert torch.equal(aggregator(features, labels, flow=full, return_weights=True)[1].space, on_grid)
    assert 0 < on_grid.mean() < 1


# --- gradients and numerics


def test_gradients_reach_the_features_only():
    features, labels, extras = _case()
    leaves = {name: x.requires_grad_() for name, x in extras.items()}
    centroids, weights = CategoryAggregator(K)(features.requires_grad_(), labels, **leaves, return_weights=True)
    assert not centroids.mass.requires_grad
    assert not weights.space.requires_grad
    assert not weights.time.requires_grad
    centroids.values.backward(torch.randn(K, 5, dtype=torch.float64))
    assert features.grad.ne(0).any()
    assert all(x.grad is None for x in leaves.values())
    counted = (weights.space > 0) & (labels[..., ::2, ::2] != 255)
    assert torch.equal(features.grad.abs().sum(2) > 0, counted)


def test_gradcheck():
    features, labels, extras = _case(b=1, t=2, d=2)
    assert gradcheck(lambda x: CategoryAggregator(K)(x, labels, **extras).values, features.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtypes_and_layouts(dtype, layout):
    features, labels = (x[:, 0] for x in _case(t=1)[:2])
    exact = CategoryAggregator(K)(features, labels)
    low = features.to(dtype).contiguous(memory_format=layout).requires_grad_()
    centroids = CategoryAggregator(K)(low, labels)
    assert (
        centroids.values.dtype == centroids.mass.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    )
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(centroids.values.double(), exact.values, rtol=tolerance, atol=tolerance)
    centroids.values.backward(torch.randn(centroids.values.shape).to(centroids.values.dtype))
    assert low.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_features_decide_the_dtype_whatever_the_rest_is(dtype):
    features, labels, extras = _case(dtype=dtype)
    for other in (torch.bfloat16, torch.float64):
        given_ = {name: x.to(other) for name, x in extras.items()}
        centroids = CategoryAggregator(K)(features, labels, **given_)
        assert centroids.values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert centroids.mass.dtype == centroids.values.dtype


def test_weights_in_double_are_not_rounded():
    features, labels, extras = _case(scale=1)
    centroids = CategoryAggregator(K)(features, labels, weights=extras["weights"])
    mass = torch.stack([extras["weights"][labels == k].sum() for k in range(K)])
    torch.testing.assert_close(centroids.mass, mass, rtol=1e-13, atol=0)


@pytest.mark.parametrize("ignored", [0.0, 0.25, 1.0])
def test_it_compiles_without_a_break(ignored):
    features, labels, extras = _case(t=2, ignored=ignored, dtype=torch.float32)
    extras = {name: x.float() for name, x in extras.items()}
    aggregator = CategoryAggregator(K)
    upstream = torch.randn(K, 5)
    results = []
    for function in (aggregator, torch.compile(aggregator, fullgraph=True, backend="aot_eager")):
        leaf = features.clone().requires_grad_()
        centroids = function(leaf, labels, **extras)
        results.append((*centroids, torch.autograd.grad(centroids.values, leaf, upstream)[0]))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
    assert results[0][1].eq(0).all() == (ignored == 1)


# --- arguments


def test_ignore_index():
    features, labels, _ = _case(scale=1, ignored=0)
    labels[:, 0, 0] = -1
    flow = torch.zeros(2, 2, 2, 3, 4)
    aggregator = CategoryAggregator(K, ignore_index=-1)
    with debug_checks():
        _, weights = aggregator(features, labels, flow=flow, logits=torch.zeros(2, 3, K, 3, 4), return_weights=True)
        with pytest.raises(ValueError, match=r"must lie in \[0, 4\) or be 255; got values from -1"):
            CategoryAggregator(K)(features, labels)
    _, weights = aggregator(features, labels, flow=flow, return_weights=True)
    assert weights.space[:, 1, 0].eq(1).all()  # an unlabelled past cannot contradict
    _, weights = CategoryAggregator(K)(features, labels, flow=flow, return_weights=True)
    assert weights.space[:, 1, 0].eq(0).all()  # another label can


def test_extra_repr_shows_the_arguments():
    aggregator = CategoryAggregator(
        7, agreement=False, confidence=False, temporal=False, persistence=False, min_mass=2.0, sync=False,
        ignore_index=-1,
    )  # fmt: skip
    assert aggregator.extra_repr() == (
        "num_classes=7, agreement=False, confidence=False, temporal=False, persistence=False, min_mass=2.0, "
        "sync=False, ignore_index=-1"
    )
    assert "agreement=True, confidence=True, temporal=True, persistence=True, min_mass=0.0, sync=True" in repr(
        CategoryAggregator(7)
    )


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match=r"^CategoryAggregator: `num_classes` must be at least 1; got 0\.$"):
        CategoryAggregator(0)
    with pytest.raises(ValueError, match=r"^CategoryAggregator: `min_mass` must be at least 0; got -1\.$"):
        CategoryAggregator(2, min_mass=-1)


def test_tensors_that_do_not_fit():
    def call(**changes):
        features, labels, extras = _case(b=2, t=3, scale=2)
        return CategoryAggregator(K)(**({"features": features, "labels": labels} | extras | changes))

    call()
    for name, shape, rule in (
        ("features", (3, 5, 3), "(B, T, D, h, w); got (3, 5, 3)."),
        ("labels", (2, 2, 6, 8), "(B=2, T=3, H, W); got (2, 2, 6, 8)."),
        ("logits", (2, 3, 5, 3, 4), "(B=2, T=3, K=4, h', w'); got (2, 3, 5, 3, 4)."),
        ("weights", (2, 3, 3, 4), "(B=2, T=3, H=6, W=8); got (2, 3, 3, 4)."),
        ("flow", (2, 3, 2, 3, 4), "(B=2, T-1=2, 2, H', W'); got (2, 3, 2, 3, 4)."),
    ):
        message = f"CategoryAggregator: `{name}` must have shape {rule}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(**{name: torch.zeros(shape, dtype=torch.long if name == "labels" else torch.float32)})
    for name, dtype, rule in (
        ("features", torch.int64, "float; got torch.int64."),
        ("labels", torch.float32, "int64; got torch.float32."),
        ("logits", torch.int64, "float; got torch.int64."),
        ("weights", torch.bool, "float; got torch.bool."),
        ("flow", torch.int64, "float; got torch.int64."),
    ):
        features, labels, extras = _case(b=2, t=3, scale=2)
        x = ({"features": features, "labels": labels} | extras)[name]
        with pytest.raises(TypeError, match=f"^{re.escape(f'CategoryAggregator: `{name}` must be of dtype {rule}')}$"):
            call(**{name: x.to(dtype)})
    with pytest.raises(
        ValueError, match=r"^CategoryAggregator: all tensors must lie on one device; got `features` on cpu"
    ):
        call(weights=torch.zeros(2, 3, 6, 8, device="meta"))
