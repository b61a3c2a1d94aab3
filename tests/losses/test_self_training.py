import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from dastc import debug_checks
from dastc.functional import confidence_weights
from dastc.losses import SelfTrainingLoss

SEEDS = st.integers(0, 2**31 - 1)
WEIGHTINGS = ["share", "confidence", "threshold", "none"]
LOG2 = math.log(2)


def _case(seed=0, n=2, k=3, h=3, w=4, scale=2, ignored=0.25, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, h, w, generator=rng, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, k, (n, h * scale, w * scale), generator=rng)
    labels[torch.rand(labels.shape, generator=rng) < ignored] = 255
    confidence = torch.rand(labels.shape, generator=rng, dtype=torch.float64).to(dtype)
    return logits, labels, confidence


# --- confidence_weights


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("share", [[0.5, 0.5, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]]),
        ("confidence", [[0.99, 0.98, 0.5, 0.0], [0.97, 0.1, 0.2, 0.3]]),
        ("threshold", [[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]),
        ("none", [[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]),
    ],
)
def test_weights_by_hand(weighting, expected):
    confidence = torch.tensor([[0.99, 0.98, 0.5, 0.0], [0.97, 0.1, 0.2, 0.3]])
    torch.testing.assert_close(confidence_weights(confidence, weighting), torch.tensor(expected))


def test_share_and_0968_are_the_defaults():
    confidence = torch.tensor([[0.9679, 0.9681]])
    assert confidence_weights(confidence).tolist() == [[0.5, 0.5]]
    assert confidence_weights(confidence, "threshold").tolist() == [[0, 1]]


def test_weights_of_one_confidence_per_sample():
    assert confidence_weights(torch.tensor([0.99, 0.5, 0.0])).tolist() == [1, 0, 0]


@given(SEEDS, st.sampled_from(WEIGHTINGS), st.floats(0, 1), st.integers(0, 3), st.integers(0, 3))
def test_weights_are_per_sample_and_in_range(seed, weighting, threshold, batch, axes):
    rng = torch.Generator().manual_seed(seed)
    confidence = torch.rand((batch, *(2, 3, 4)[:axes]), generator=rng)
    confidence[torch.rand(confidence.shape, generator=rng) < 0.2] = 0
    weights = confidence_weights(confidence, weighting, threshold=threshold)
    assert weights.shape == confidence.shape
    assert ((weights >= 0) & (weights <= 1)).all()
    assert weights[confidence == 0].eq(0).all()  # a label that nothing supports never counts
    for b in range(batch):
        alone = confidence_weights(confidence[b : b + 1], weighting, threshold=threshold)
        assert torch.equal(weights[b : b + 1], alone)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_threshold_itself_is_confident(weighting):
    confidence = torch.tensor([[0.5, 0.25]], dtype=torch.float64)
    weights = confidence_weights(confidence, weighting, threshold=0.5)
    assert weights.tolist() == {
        "share": [[0.5, 0.5]], "confidence": [[0.5, 0.25]], "threshold": [[1, 0]], "none": [[1, 1]]
    }[weighting]  # fmt: skip


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_keep_the_dtype_and_have_no_gradient(weighting, dtype):
    confidence = torch.rand(2, 3, dtype=dtype, requires_grad=True)
    weights = confidence_weights(confidence, weighting)
    assert weights.dtype == dtype
    assert not weights.requires_grad


def test_weights_of_views():
    confidence = torch.rand(4, 3, 2).transpose(0, 2)
    assert torch.equal(confidence_weights(confidence), confidence_weights(confidence.contiguous()))


def test_weights_errors():
    with pytest.raises(
        TypeError, match=r"^confidence_weights: `confidence` must be of dtype float; got torch\.int64\.$"
    ):
        confidence_weights(torch.ones(2, 2, dtype=torch.long))
    message = "confidence_weights: `weighting` must be one of 'share', 'confidence', 'threshold', 'none'; got 'all'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        confidence_weights(torch.ones(2, 2), "all")
    with pytest.raises(ValueError, match=r"^confidence_weights: `threshold` must lie in \[0, 1\]; got 1\.5\.$"):
        confidence_weights(torch.ones(2, 2), threshold=1.5)


# --- SelfTrainingLoss


@pytest.mark.parametrize(
    ("weighting", "weight"), [("share", 0.5), ("confidence", 0.6175), ("threshold", 0.5), ("none", 1.0)]
)
def test_by_hand(weighting, weight):
    confidence = torch.tensor([[[0.98, 0.97], [0.5, 0.02]]])
    loss = SelfTrainingLoss(weighting=weighting)(torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 2).long(), confidence)
    assert float(loss) == pytest.approx(weight * LOG2, rel=1e-6)


def test_defaults():
    logits, labels, _ = _case()
    confidence = torch.full(labels.shape, 0.9679, dtype=torch.float64)
    confidence[:, :3] = 0.9681
    by_name = SelfTrainingLoss(weighting="share", threshold=0.968)(logits, labels, confidence)
    assert torch.equal(SelfTrainingLoss()(logits, labels, confidence), by_name)
    assert float(by_name) == pytest.approx(0.5 * float(SelfTrainingLoss()(logits, labels)))


def test_without_confidence_every_label_counts_fully():
    logits, labels, _ = _case(scale=1)
    for weighting in WEIGHTINGS:
        loss = SelfTrainingLoss(weighting=weighting)(logits, labels)
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels, ignore_index=255))


@given(SEEDS, st.sampled_from(WEIGHTINGS), st.floats(0, 1), st.integers(1, 3))
def test_it_is_the_mean_over_labelled_pixels(seed, weighting, threshold, scale):
    logits, labels, confidence = _case(seed, scale=scale)
    loss = SelfTrainingLoss(weighting=weighting, threshold=threshold)(logits, labels, confidence)
    up = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    each = F.cross_entropy(up, labels, ignore_index=255, reduction="none")
    weights = confidence_weights(confidence, weighting, threshold=threshold)
    torch.testing.assert_close(loss, (weights * each).sum() / (labels != 255).sum().clamp(min=1))


def test_what_weighs_nothing_teaches_nothing():
    logits, labels, confidence = _case(ignored=0)
    loss = SelfTrainingLoss(weighting="threshold", threshold=0.5)
    x, y = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    removed = labels.where(confidence >= 0.5, 255)
    kept = int((removed != 255).sum())
    loss(x, labels, confidence).backward()
    loss(y, removed).backward()
    torch.testing.assert_close(x.grad * labels.numel(), y.grad * kept)


def test_unsure_pictures_teach_less():
    logits, labels, confidence = _case(n=1, ignored=0)
    sure, unsure = (SelfTrainingLoss(threshold=t)(logits, labels, confidence) for t in (0.2, 0.9))
    assert 0 < unsure < 0.5 * sure


@pytest.mark.parametrize("nothing", ["ignored", "unsupported", "unsure"])
def test_nothing_to_learn_is_zero_and_connected(nothing):
    logits, labels, confidence = _case()
    logits.requires_grad_()
    if nothing == "ignored":
        labels = torch.full_like(labels, 255)
    else:
        confidence = torch.full_like(confidence, 0.0 if nothing == "unsupported" else 0.3)
    loss = SelfTrainingLoss(weighting="share")(logits, labels, confidence)
    assert loss == 0
    loss.backward()
    assert logits.grad.eq(0).all()


def test_ignore_index_is_the_one_label_that_may_lie_outside():
    logits, labels, confidence = _case(ignored=0)
    labels[0, 0] = -1
    with debug_checks():
        SelfTrainingLoss(ignore_index=-1)(logits, labels, confidence)
        with pytest.raises(ValueError, match=r"must lie in \[0, 3\) or be 255; got values from -1"):
            SelfTrainingLoss()(logits, labels, confidence)


def test_gradcheck():
    logits, labels, confidence = _case(n=1, scale=2)
    loss = SelfTrainingLoss(weighting="confidence")
    assert gradcheck(lambda x: loss(x, labels, confidence), logits.requires_grad_())


def test_confidence_gets_no_gradient():
    logits, labels, confidence = _case()
    confidence.requires_grad_()
    SelfTrainingLoss(weighting="confidence")(logits.requires_grad_(), labels, confidence).backward()
    assert confidence.grad is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_dtypes_and_layouts(dtype, layout):
    exact = SelfTrainingLoss(weighting="confidence")(*_case())
    logits, labels, confidence = _case(dtype=dtype)
    logits = logits.contiguous(memory_format=layout).requires_grad_()
    loss = SelfTrainingLoss(weighting="confidence")(logits, labels, confidence)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = {torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(loss.double(), exact, rtol=tolerance, atol=tolerance)
    loss.backward()
    assert logits.grad.dtype == dtype


@pytest.mark.parametrize("ignored", [0.0, 0.25, 1.0])
def test_it_compiles_without_a_break(ignored):
    logits, labels, confidence = _case(ignored=ignored, dtype=torch.float32)
    loss = SelfTrainingLoss(threshold=0.5)
    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = logits.clone().requires_grad_()
        out = function(leaf, labels, confidence)
        results.append((out, torch.autograd.grad(out, leaf, torch.tensor(1.7))[0]))
    for eager, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)
    assert (results[0][0] == 0) == (ignored == 1)


def test_extra_repr_shows_the_arguments():
    loss = SelfTrainingLoss(weighting="none", threshold=0.5, ignore_index=-1)
    assert loss.extra_repr() == "weighting='none', threshold=0.5, sync=True, ignore_index=-1"


def test_errors():
    message = "SelfTrainingLoss: `weighting` must be one of 'share', 'confidence', 'threshold', 'none'; got 'mean'."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        SelfTrainingLoss(weighting="mean")
    for threshold in (-0.1, 1.01, float("nan")):
        message = f"SelfTrainingLoss: `threshold` must lie in [0, 1]; got {threshold}."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            SelfTrainingLoss(threshold=threshold)
    logits, labels, confidence = _case()
    with pytest.raises(ValueError, match=r"`weights` must have shape \(N=2, H=6, W=8\); got \(2, 3, 4\)\.$"):
        SelfTrainingLoss()(logits, labels, confidence[:, ::2, ::2])
    with pytest.raises(TypeError, match=r"`labels` must be of dtype int64; got torch\.int32\.$"):
        SelfTrainingLoss()(logits, labels.int())
    with pytest.raises(TypeError, match=r"`confidence` must be of dtype float; got torch\.bool\.$"):
        SelfTrainingLoss()(logits, labels, confidence > 0.5)
