import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc.functional import Centroids
from dastc.losses import PixelAlignmentLoss

K, SEEDS = 4, st.integers(0, 2**31 - 1)


def case(seed=0, dtype=torch.float64, ignored=0.25, present=(True, True, False, True)):
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, 2, 5, generator=rng, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, K, (2, 4, 10), generator=rng)
    labels[torch.rand(labels.shape, generator=rng) < ignored] = 255
    values = torch.randn(K, 3, generator=rng, dtype=torch.float64).to(dtype)
    weights = torch.rand(labels.shape, generator=rng, dtype=torch.float64).to(dtype)
    return features, labels, Centroids(values, torch.tensor(present, dtype=dtype)), weights


def plain(features, labels, centroids, weights=None, temperature=0.1):
    """Over the classes that there are, with the similarities upsampled."""
    there = centroids.present.nonzero().flatten().tolist()
    near = torch.stack([F.cosine_similarity(features, centroids.values[k].view(1, -1, 1, 1)) for k in there], dim=1)
    full = F.interpolate(near / temperature, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    wanted = torch.full_like(labels, -100)
    for column, k in enumerate(there):
        wanted[labels == k] = column
    loss = F.cross_entropy(full, wanted, reduction="none")
    loss = loss if weights is None else loss * weights
    return loss.sum() / (wanted >= 0).sum().clamp(min=1)


@given(SEEDS, st.booleans(), st.sampled_from([0.1, 0.7]), st.lists(st.booleans(), min_size=K, max_size=K).filter(any))
def test_equals_a_plain_contrast_with_the_classes_that_there_are(seed, weighted, temperature, present):
    features, labels, centroids, weights = case(seed, present=present)
    weights = weights if weighted else None
    found = PixelAlignmentLoss(K, temperature=temperature)(features, labels, centroids, weights=weights)
    torch.testing.assert_close(found, plain(features, labels, centroids, weights, temperature))


def test_gradcheck_in_features_and_weights_and_none_to_the_centroids():
    features, labels, centroids, weights = case()
    loss = PixelAlignmentLoss(K, temperature=0.5)
    features.requires_grad_()
    weights.requires_grad_()
    assert gradcheck(lambda x, w: loss(x, labels, centroids, weights=w), (features, weights))
    centroids.values.requires_grad_()
    loss(features, labels, centroids).backward()
    assert centroids.values.grad is None


def test_a_step_downhill_brings_pixels_nearer_to_their_own_centroid():
    features, labels, centroids, _ = case(ignored=0.0, present=(True,) * K)
    features.requires_grad_()
    loss = PixelAlignmentLoss(K)
    before = loss(features, labels, centroids)
    (gradient,) = torch.autograd.grad(before, features)
    assert loss(features - 0.1 * gradient, labels, centroids) < before


@pytest.mark.parametrize("nothing", ["ignored", "no centroid", "outside", "empty batch"])
def test_nothing_to_align_is_zero_and_connected(nothing):
    features, labels, centroids, _ = case()
    features.requires_grad_()
    if nothing == "no centroid":
        centroids = Centroids(centroids.values, torch.zeros(K))
    elif nothing == "empty batch":
        features, labels = features[:0], labels[:0]
    else:
        labels = torch.full_like(labels, {"ignored": 255, "outside": 77}[nothing])
    loss = PixelAlignmentLoss(K)(features, labels, centroids)
    assert loss == 0
    loss.backward()


@pytest.mark.parametrize("ignore_index", [0, 3, 255])
def test_ignored_pixels_take_no_part(ignore_index):
    features, labels, centroids, _ = case(ignored=0.0, present=(True,) * K)
    elsewhere = labels.where(labels != ignore_index, 255)
    found = PixelAlignmentLoss(K, ignore_index=ignore_index)(features, labels, centroids)
    torch.testing.assert_close(found, plain(features, elsewhere, centroids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_half_precision_is_for_storage_only(dtype):
    features, labels, centroids, _ = case(dtype=dtype)
    found = PixelAlignmentLoss(K)(features, labels, centroids)
    assert found.dtype == torch.float32
    exact = plain(features.double(), labels, Centroids(centroids.values.double(), centroids.mass))
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ignored", [0.0, 0.25, 1.0])
def test_compiles_without_a_graph_break(ignored):
    features, labels, centroids, weights = case(ignored=ignored)
    loss = PixelAlignmentLoss(K)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    eager = features.clone().requires_grad_()
    features.requires_grad_()
    found, want = (
        compiled(features, labels, centroids, weights=weights),
        loss(eager, labels, centroids, weights=weights),
    )
    torch.testing.assert_close(found, want)
    found.backward()
    want.backward()
    torch.testing.assert_close(features.grad, eager.grad)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"features": torch.zeros(2, 2, 5)}, "`features` must have shape (N, D, h, w); got (2, 2, 5)."),
        ({"features": torch.zeros(2, 9, 2, 5)}, "`centroids.values` must have shape (K=4, D=9); got (4, 3)."),
        (
            {"centroids": Centroids(torch.zeros(5, 3), torch.zeros(5))},
            "`centroids.values` must have shape (K=4, D=3); got (5, 3).",
        ),
    ],
)
def test_errors_name_the_argument(change, text):
    features, labels, centroids, _ = case()
    given = {"features": features, "labels": labels, "centroids": centroids} | change
    with pytest.raises(ValueError, match=re.escape(f"PixelAlignmentLoss: {text}")):
        PixelAlignmentLoss(K)(**given)


@pytest.mark.parametrize("arguments", [{"num_classes": 0}, {"num_classes": 2, "temperature": 0.0}], ids=str)
def test_bad_arguments_are_refused(arguments):
    name = "temperature" if "temperature" in arguments else "num_classes"
    with pytest.raises(ValueError, match=f"PixelAlignmentLoss: `{name}` must be"):
        PixelAlignmentLoss(**arguments)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_features_of_pixels_that_do_not_count_may_be_anything(factor):
    features, _, centroids, _ = case()
    labels = torch.randint(0, K, (2, 2 * factor, 5 * factor), generator=torch.Generator().manual_seed(1))
    labels[:, :, : 3 * factor] = 255  # reached from the third column of the features on, by interpolation
    loss = PixelAlignmentLoss(K)
    expected = loss(features, labels, centroids)
    features[:, :, :, :2] = float("nan")
    features.requires_grad_()
    found = loss(features, labels, centroids)
    torch.testing.assert_close(found, expected)
    found.backward()
    assert features.grad.isfinite().all()
    assert features.grad[..., 3:].any()
