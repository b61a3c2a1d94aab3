import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from dastc import debug_checks
from dastc.functional import Centroids
from dastc.losses import CategoryAlignmentLoss, CentroidAlignmentLoss

SEEDS = st.integers(0, 2**31 - 1)
OBJECTIVES = ["infonce", "cdd", "mmd", "margin"]
K = 4


class Record(nn.Module):
    """Keep the centroids that arrive."""

    def forward(self, source, target):
        self.seen = source, target
        return source.values.sum() + target.values.sum()


def _domain(rng, n, d=5, h=3, w=2, scale=2, ignored=0.25, dtype=torch.float64):
    features = torch.randn(n, d, h, w, generator=rng, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, K, (n, h, w), generator=rng)
    labels[torch.rand(labels.shape, generator=rng) < ignored] = 255
    labels = labels.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return features, labels, torch.rand(labels.shape, generator=rng, dtype=torch.float64).to(dtype)


def _case(seed=0, **kwargs):
    rng = torch.Generator().manual_seed(seed)
    source, target = _domain(rng, 2, **kwargs), _domain(rng, 3, **kwargs)
    return (*source[:2], *target[:2]), {"source_weights": source[2], "target_weights": target[2]}


def _plain(features, labels, weights, classes=K):
    """Cell by cell; cells are ``scale`` x ``scale`` labels that agree."""
    n, d, h, w = features.shape
    scale = labels.shape[1] // h
    sums, mass = torch.zeros(classes, d, dtype=features.dtype), torch.zeros(classes, dtype=features.dtype)
    for b in range(n):
        for i in range(h):
            for j in range(w):
                block = (b, slice(i * scale, (i + 1) * scale), slice(j * scale, (j + 1) * scale))
                k = int(labels[block][-1, -1])
                if k < classes:
                    m = 1.0 if weights is None else weights[block].mean()
                    sums[k] += m * features[b, :, i, j]
                    mass[k] += m
    return Centroids(sums / mass.clamp(min=1e-9)[:, None], mass)


def test_by_hand():
    source = torch.tensor([[[[1.0, 3.0, 0.0, 9.0]], [[0.0, 0.0, 2.0, 9.0]]]])  # class 0: (2, 0), class 1: (0, 2)
    target = torch.tensor([[[[0.0, 0.0]], [[5.0, 7.0]]]])  # class 0: (0, 6)
    loss = CategoryAlignmentLoss(2, align=CentroidAlignmentLoss("margin", inter_weight=0.0))
    labels = torch.tensor([[[0, 0, 1, 255]]]), torch.tensor([[[0, 0]]])
    assert float(loss(source, labels[0], target, labels[1])) == pytest.approx(2.0)


@given(SEEDS, st.integers(1, 3), st.booleans())
def test_it_aligns_the_averages_of_each_class(seed, scale, weighted):
    args, weights = _case(seed, scale=scale)
    weights = weights if weighted else {"source_weights": None, "target_weights": None}
    record = Record()
    CategoryAlignmentLoss(K, align=record)(*args, **weights)
    source = _plain(*args[:2], weights["source_weights"])
    target = _plain(*args[2:], weights["target_weights"])
    for found, expected in zip(record.seen, (source, target), strict=True):
        torch.testing.assert_close(found.values, expected.values)
        torch.testing.assert_close(found.mass, expected.mass)
    torch.testing.assert_close(
        CategoryAlignmentLoss(K)(*args, **weights), CentroidAlignmentLoss("infonce")(source, target)
    )


@pytest.mark.parametrize("align", OBJECTIVES)
def test_align_names_the_objective(align):
    args, _ = _case()
    expected = CentroidAlignmentLoss(align)(_plain(*args[:2], None), _plain(*args[2:], None))
    torch.testing.assert_close(CategoryAlignmentLoss(K, align=align)(*args), expected)
    torch.testing.assert_close(CategoryAlignmentLoss(K, align=CentroidAlignmentLoss(align))(*args), expected)


def test_each_cell_takes_the_label_at_its_centre():
    labels = torch.tensor([[[0, 1, 2], [3, 1, 0], [2, 2, 2]]])
    record = Record()
    features = torch.ones(1, 1, 1, 1)
    CategoryAlignmentLoss(K, align=record)(features, labels, features, labels)
    assert record.seen[0].mass.tolist() == [0, 1, 0, 0]


@given(SEEDS, st.sampled_from(OBJECTIVES))
def test_clip_and_image_forms_agree(seed, align):
    rng = torch.Generator().manual_seed(seed)
    loss = CategoryAlignmentLoss(K, align=align)
    source, target = _domain(rng, 4), _domain(rng, 6)
    images = loss(*source[:2], *target[:2], source_weights=source[2], target_weights=target[2])
    source = [x.unflatten(0, (2, 2)) for x in source]
    target = [x.unflatten(0, (2, 3)) for x in target]
    clips = loss(*source[:2], *target[:2], source_weights=source[2], target_weights=target[2])
    torch.testing.assert_close(clips, images)


@given(SEEDS, st.sampled_from(OBJECTIVES), st.sampled_from(["source", "target"]))
def test_weight_zero_is_removal(seed, align, domain):
    args, _ = _case(seed, scale=1)
    rng = torch.Generator().manual_seed(seed)
    index = 1 if domain == "source" else 3
    out = torch.rand(args[index].shape, generator=rng) < 0.4
    removed = list(args)
    removed[index] = args[index].where(~out, 255)
    loss = CategoryAlignmentLoss(K, align=align)
    weighted = loss(*args, **{f"{domain}_weights": (~out).double()})
    torch.testing.assert_close(weighted, loss(*removed))


@given(SEEDS, st.sampled_from(OBJECTIVES))
def test_names_of_classes_and_domains_do_not_matter(seed, align):
    args, weights = _case(seed)
    loss = CategoryAlignmentLoss(K, align=align)
    value = loss(*args, **weights)
    order = torch.cat((torch.randperm(K, generator=torch.Generator().manual_seed(seed)), torch.full((252,), 255)))
    renamed = (args[0], order[args[1]], args[2], order[args[3]])
    torch.testing.assert_close(loss(*renamed, **weights), value)
    swapped = {"source_weights": weights["target_weights"], "target_weights": weights["source_weights"]}
    torch.testing.assert_close(loss(*args[2:], *args[:2], **swapped), value)


def test_bringing_the_domains_together_helps():
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, K, (2, 6, 6), generator=rng)
    means = torch.eye(K)[labels].movedim(-1, 1) + 0.05 * torch.randn(2, K, 6, 6, generator=rng)
    away = torch.tensor([1.0, -2.0, 0.5, 0.0]).view(1, K, 1, 1)
    for align in (CentroidAlignmentLoss("margin", inter_weight=0.0), "infonce", "cdd"):
        loss = CategoryAlignmentLoss(K, align=align)
        values = [float(loss(means, labels, means + part * away, labels)) for part in (1.0, 0.6, 0.3, 0.0)]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[-1] + 0.1


@pytest.mark.parametrize("align", OBJECTIVES)
@pytest.mark.parametrize("nothing", ["ignored", "weightless", "unshared"])
def test_nothing_to_align_is_zero_and_connected(align, nothing):
    args, weights = _case()
    source, labels, target, target_labels = args
    if nothing == "ignored":
        target_labels = torch.full_like(target_labels, 255)
    elif nothing == "weightless":
        weights["source_weights"] = torch.zeros_like(weights["source_weights"])
    else:
        labels, target_labels = torch.zeros_like(labels), torch.ones_like(target_labels)
    source.requires_grad_()
    target.requires_grad_()
    value = CategoryAlignmentLoss(K, align=align)(source, labels, target, target_labels, **weights)
    value.backward()
    for x in (source, target):
        assert x.grad.isfinite().all()
    if align != "margin":  # which pushes classes apart wherever they are
        assert value == 0
        assert source.grad.eq(0).all()
        assert target.grad.eq(0).all()


@pytest.mark.parametrize("align", OBJECTIVES)
def test_gradients_reach_labelled_cells_of_both_domains(align):
    args, weights = _case(scale=1)
    # far enough from equality for every cell to matter
    source, target = (args[0] + 1).requires_grad_(), (args[2] + 1).requires_grad_()
    CategoryAlignmentLoss(K, align=align)(source, args[1], target, args[3], **weights).backward()
    for x, labels, others in ((source, args[1], args[3]), (target, args[3], args[1])):
        counts = (labels != 255) & (torch.isin(labels, others) | (align in ("infonce", "margin")))
        assert torch.equal(x.grad.abs().sum(1) > 0, counts)


@pytest.mark.parametrize("align", ["infonce", "margin"])  # the others hold their bandwidth constant
def test_gradcheck(align):
    args, weights = _case(d=3, scale=1)
    loss = CategoryAlignmentLoss(K, align=align)

    def forward(source, target, a, b):
        return loss(source, args[1], target, args[3], source_weights=a, target_weights=b)

    leaves = [x.requires_grad_() for x in ((args[0] + 1), (args[2] + 1), *(w + 0.1 for w in weights.values()))]
    assert gradcheck(forward, leaves)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtypes_and_layouts(dtype, layout):
    args, weights = _case()
    exact = CategoryAlignmentLoss(K)(*args, **weights)
    source, target = (x.to(dtype).contiguous(memory_format=layout).requires_grad_() for x in args[::2])
    # weights come from pseudo-labels, in float32 whatever the features are
    single = {name: w.float() for name, w in weights.items()}
    value = CategoryAlignmentLoss(K)(source, args[1], target, args[3], **single)
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = {torch.bfloat16: 5e-2, torch.float32: 1e-5, torch.float64: 1e-6}[dtype]
    torch.testing.assert_close(value.double(), exact, rtol=tolerance, atol=tolerance)
    value.backward()
    assert source.grad.dtype == dtype


@pytest.mark.parametrize("ignored", [0.0, 0.25, 1.0])
def test_it_compiles_without_a_break(ignored):
    args, weights = _case(ignored=ignored, dtype=torch.float32)
    loss = CategoryAlignmentLoss(K)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaves = [x.clone().requires_grad_() for x in args[::2]]
        value = function(leaves[0], args[1], leaves[1], args[3], **weights)
        results.append((value, *torch.autograd.grad(value, leaves, torch.tensor(1.3))))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
    assert (results[0][0] == 0) == (ignored == 1)


def test_ignore_index_is_the_one_label_that_may_lie_outside():
    args, _ = _case(ignored=0)
    labels = args[1].clone()
    labels[0] = -1
    with debug_checks():
        CategoryAlignmentLoss(K, ignore_index=-1)(args[0], labels, *args[2:])
        with pytest.raises(ValueError, match=r"must lie in \[0, 4\) or be 255; got values from -1"):
            CategoryAlignmentLoss(K)(args[0], labels, *args[2:])
    # without the checks, it takes no part
    torch.testing.assert_close(
        CategoryAlignmentLoss(K)(args[0], labels, *args[2:]),
        CategoryAlignmentLoss(K)(args[0][1:], labels[1:], *args[2:]),
    )


def test_extra_repr_shows_the_arguments():
    loss = CategoryAlignmentLoss(7, align="mmd", sync=False, ignore_index=-1)
    assert loss.extra_repr() == "num_classes=7, sync=False, ignore_index=-1"
    assert "(objective): CentroidAlignmentLoss('mmd'" in repr(loss)
    assert not loss.state_dict()


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match=r"^CategoryAlignmentLoss: `num_classes` must be at least 1; got 0\.$"):
        CategoryAlignmentLoss(0)
    with pytest.raises(ValueError, match=r"`align` must be one of 'infonce', 'cdd', 'mmd', 'margin'; got 'coral'\.$"):
        CategoryAlignmentLoss(3, align="coral")


@pytest.mark.parametrize("domain", ["source", "target"])
def test_tensors_that_do_not_fit(domain):
    def call(features=(2, 5, 3, 2), labels=(2, 6, 4), weights=(2, 6, 4), label_dtype=torch.long, dtype=torch.float32):
        other = "target" if domain == "source" else "source"
        fine = {f"{other}_features": torch.zeros(2, 5, 3, 2), f"{other}_labels": torch.zeros(2, 6, 4).long()}
        return CategoryAlignmentLoss(K)(
            **fine,
            **{
                f"{domain}_features": torch.zeros(features),
                f"{domain}_labels": torch.zeros(labels, dtype=label_dtype),
                f"{domain}_weights": torch.zeros(weights, dtype=dtype),
            },
        )

    call()
    for kwargs, name, rule in (
        ({"features": (5, 3, 2)}, "features", "must have shape (N, D, h, w); got (5, 3, 2)."),
        ({"labels": (3, 6, 4)}, "labels", "must have shape (N=2, H, W); got (3, 6, 4)."),
        ({"features": (1, 2, 5, 3, 2)}, "labels", "must have shape (B=1, T=2, H, W); got (2, 6, 4)."),
        ({"weights": (2, 3, 2)}, "weights", "must have shape (N=2, H=6, W=4); got (2, 3, 2)."),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(f'CategoryAlignmentLoss: `{domain}_{name}` {rule}')}$"):
            call(**kwargs)
    for kwargs, name, rule in (
        ({"label_dtype": torch.int32}, "labels", "must be of dtype int64; got torch.int32."),
        ({"dtype": torch.bool}, "weights", "must be of dtype float; got torch.bool."),
    ):
        with pytest.raises(TypeError, match=f"^{re.escape(f'CategoryAlignmentLoss: `{domain}_{name}` {rule}')}$"):
            call(**kwargs)
