import pickle

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from dastc import debug_checks
from dastc.metrics import MeanIoU

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _random(seed, shape=(3, 5, 7), low=-2, high=8):
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, shape, generator=rng).to(DEVICE)


def _metric(*args, **kwargs):
    return MeanIoU(*args, **kwargs).to(DEVICE)


def _by_loop(predictions, labels, num_classes, ignore_index):
    counts = torch.zeros(num_classes, num_classes + 1, dtype=torch.int64)
    for p, y in zip(predictions.flatten().tolist(), labels.flatten().tolist(), strict=True):
        if y != ignore_index and 0 <= y < num_classes:
            counts[y, p if 0 <= p < num_classes else num_classes] += 1
    return counts


def test_known_values():
    metric = _metric(4)
    labels = torch.tensor([[[0, 0, 0, 1], [1, 1, 255, 255]]], device=DEVICE)
    predictions = torch.tensor([[[0, 0, 1, 1], [1, 2, 0, 3]]], device=DEVICE)
    metric.update(predictions, labels)
    result = metric.compute()
    # class 0: 2 of 3; class 1: 2 of 4; class 2 was only predicted: 0; class 3 only where nothing counts: NaN
    want = torch.tensor([200 / 3, 50.0, 0.0, float("nan")], dtype=torch.float64, device=DEVICE)
    torch.testing.assert_close(result.per_class, want, equal_nan=True)
    assert float(result.miou) == pytest.approx((200 / 3 + 50 + 0) / 3)
    assert float(result.pixel_accuracy) == pytest.approx(100 * 4 / 6)


def test_one_matrix_over_the_data_set_and_not_a_mean_over_images():
    metric = _metric(2)
    for predictions, labels in (([[0, 0, 0, 0]], [[0, 0, 0, 1]]), ([[1, 1, 1, 0]], [[1, 1, 1, 1]])):
        metric.update(torch.tensor([predictions], device=DEVICE), torch.tensor([labels], device=DEVICE))
    torch.testing.assert_close(metric.compute().per_class.cpu(), torch.tensor([60.0, 60.0], dtype=torch.float64))


def test_a_subset_leaves_the_other_classes_out_of_the_mean_only():
    labels, predictions = _random(0, low=0, high=5), _random(1, low=0, high=5)
    full, subset = _metric(5), _metric(5, classes=[3, 1])
    for metric in (full, subset):
        metric.update(predictions, labels)
    assert torch.equal(full.compute().per_class, subset.compute().per_class)
    torch.testing.assert_close(subset.compute().miou, full.compute().per_class[[1, 3]].mean())
    assert subset.compute().pixel_accuracy == full.compute().pixel_accuracy


@given(st.integers(0, 2**31 - 1), st.integers(1, 6), st.sampled_from([255, 0, -1, 7]))
def test_counts_equal_a_loop_over_pixels(seed, num_classes, ignore_index):
    assume(num_classes > 1 or ignore_index != 0)  # nothing would be left to score
    predictions, labels = _random(seed), _random(seed + 1)
    metric = _metric(num_classes, ignore_index=ignore_index)
    metric.update(predictions, labels)
    assert torch.equal(metric.confusion.cpu(), _by_loop(predictions, labels, num_classes, ignore_index))


@given(st.integers(0, 2**31 - 1))
def test_an_ignored_class_counts_in_no_mean(seed):
    predictions, labels = _random(seed), _random(seed + 1)
    metric, rest = _metric(4, ignore_index=2), _metric(4, ignore_index=2, classes=[0, 1, 3])
    for each in (metric, rest):
        each.update(predictions, labels)
    result = metric.compute()
    assert result.per_class[2].isnan()
    torch.testing.assert_close(result.miou, result.per_class[[0, 1, 3]].nanmean(), equal_nan=True)
    torch.testing.assert_close(result.miou, rest.compute().miou, equal_nan=True)
    with pytest.raises(ValueError, match=r"in \[0, 4\) other than the ignored 2, at least one; got \[1, 2\]"):
        MeanIoU(4, ignore_index=2, classes=[1, 2])


@given(st.integers(0, 2**31 - 1))
def test_renaming_the_classes_renames_the_result(seed):
    predictions, labels = _random(seed, low=0, high=6), _random(seed + 1, low=0, high=6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    one, other = _metric(6), _metric(6)
    one.update(predictions, labels)
    other.update(order[predictions], order[labels])
    torch.testing.assert_close(one.compute().per_class, other.compute().per_class[order], equal_nan=True)
    torch.testing.assert_close(one.compute().miou, other.compute().miou)


def test_labels_and_predictions_are_not_interchangeable():
    labels, predictions = torch.zeros(1, 1, 4, dtype=torch.int64), torch.tensor([[[0, 1, 1, 1]]])
    metric = MeanIoU(2)
    metric.update(predictions, labels)
    assert metric.confusion.tolist() == [[1, 3, 0], [0, 0, 0]]


def test_ignoring_pixels_equals_leaving_them_out():
    predictions, labels = _random(0, (1, 1, 40), 0, 4), _random(1, (1, 1, 40), 0, 4)
    keep = (torch.arange(40) % 3 > 0).to(DEVICE)
    ignored, removed = _metric(4), _metric(4)
    ignored.update(predictions, labels.where(keep, 255))
    removed.update(predictions[..., keep], labels[..., keep])
    assert torch.equal(ignored.confusion, removed.confusion)


def test_merging_parts_equals_one_pass():
    predictions, labels = _random(0, (4, 5, 7)), _random(1, (4, 5, 7))
    whole, first, second = (_metric(6) for _ in range(3))
    whole.update(predictions, labels)
    first.update(predictions[:1], labels[:1])
    second.update(predictions[1:], labels[1:])
    first.merge(second)
    assert torch.equal(first.confusion, whole.confusion)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_logits_are_resized_before_the_arg_max(dtype):
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(3)).to(DEVICE, dtype)
    labels = _random(4, (2, 13, 17), 0, 3)
    low, full = _metric(3), _metric(3)
    low.update(logits, labels)
    wide = logits.to(torch.promote_types(dtype, torch.float32))
    full.update(F.interpolate(wide, size=(13, 17), mode="bilinear", align_corners=False).argmax(1), labels)
    assert torch.equal(low.confusion, full.confusion)


def test_resizing_in_half_precision_makes_no_ties():
    logits = torch.tensor([[[[1.0, 1.0]], [[1.0078125, 1.0]]]], dtype=torch.bfloat16, device=DEVICE)
    metric = _metric(2)
    metric.update(logits, torch.ones(1, 1, 4, dtype=torch.int64, device=DEVICE))
    # the third pixel differs by a quarter of a step of bfloat16; the last is a tie, which the first class wins
    assert metric.confusion.tolist() == [[0, 0, 0], [1, 3, 0]]


def test_logits_at_label_size_are_taken_as_they_are():
    logits, labels = torch.randn(2, 3, 4, 5, device=DEVICE), _random(4, (2, 4, 5), 0, 3)
    one, other = _metric(3), _metric(3)
    one.update(logits, labels)
    other.update(logits.argmax(1), labels)
    assert torch.equal(one.confusion, other.confusion)


def test_nothing_counted_is_nan():
    metric = _metric(3)
    for labels in (torch.full((1, 2, 3), 255, device=DEVICE), torch.zeros(0, 2, 3, dtype=torch.int64, device=DEVICE)):
        metric.update(torch.zeros_like(labels), labels)
    result = metric.compute()
    assert all(bool(x.isnan().all()) for x in result)


def test_reset_forgets():
    metric = _metric(3)
    metric.update(_random(0, high=3), _random(1, high=3))
    assert metric.confusion.any()
    metric.reset()
    assert not metric.confusion.any()


def test_state_is_one_int64_buffer_that_survives():
    metric, other = _metric(3), MeanIoU(3)
    metric.update(_random(0, high=3), _random(1, high=3))
    assert list(metric.state_dict()) == ["confusion"]
    other.load_state_dict(metric.half().state_dict())
    assert other.confusion.dtype == torch.int64
    assert torch.equal(other.confusion, metric.confusion.cpu())
    assert torch.equal(pickle.loads(pickle.dumps(metric)).confusion, metric.confusion)
    assert not list(metric.parameters())


def test_repr_shows_the_arguments():
    assert repr(MeanIoU(3, ignore_index=9, classes=[2, 0])) == "MeanIoU(num_classes=3, ignore_index=9, classes=(2, 0))"


def test_update_compiles_without_a_break():
    metric, want = MeanIoU(3), MeanIoU(3)
    logits, labels = torch.randn(2, 3, 4, 5), _random(4, (2, 8, 9), 0, 3).cpu()
    torch.compile(metric.update, fullgraph=True, backend="eager")(logits, labels)
    want.update(logits, labels)
    assert torch.equal(metric.confusion, want.confusion)


@pytest.mark.skipif(DEVICE == "cpu", reason="only a device can be waited for")
def test_update_does_not_wait_for_the_device(no_wait):
    metric, logits, labels = _metric(3), torch.randn(2, 3, 4, 5, device=DEVICE), _random(4, (2, 8, 9))
    with no_wait():
        metric.update(logits, labels)


def test_debug_checks_refuse_labels_out_of_range_and_logits_not_finite():
    metric, labels = MeanIoU(3), torch.tensor([[[0, 254]]])
    metric.update(labels, labels)
    with debug_checks():
        with pytest.raises(ValueError, match=r"^MeanIoU.update: `labels` must lie in \[0, 3\) or be 255; got values"):
            metric.update(labels, labels)
        with pytest.raises(ValueError, match=r"^MeanIoU.update: `predictions` must be finite; got NaN"):
            metric.update(torch.full((1, 3, 1, 2), float("nan")), labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, None), r"^MeanIoU: `num_classes` must be at least 1; got 0\.$"),
        ((3, []), r"^MeanIoU: `classes` must be different class indices in \[0, 3\), at least one; got \[\]\.$"),
        ((3, [1, 1]), r"in \[0, 3\), at least one; got \[1, 1\]\.$"),
        ((3, [0, 3]), r"in \[0, 3\), at least one; got \[0, 3\]\.$"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(arguments[0], classes=arguments[1])


LABELS = torch.zeros(2, 3, 5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("predictions", "labels", "kind", "message"),
    [
        (LABELS, LABELS[0], ValueError, r"^MeanIoU.update: `labels` must have shape \(N, H, W\); got \(3, 5\)\.$"),
        (LABELS, LABELS.int(), TypeError, r"^MeanIoU.update: `labels` must be of dtype int64; got torch.int32\.$"),
        (LABELS.int(), LABELS, TypeError, r"^MeanIoU.update: `predictions` must be of dtype int64; got torch.int32\.$"),
        ([[0]], LABELS, TypeError, r"^MeanIoU.update: `predictions` must be a tensor; got list\.$"),
        (
            LABELS[:, :2],
            LABELS,
            ValueError,
            r"`predictions` must have shape \(N=2, H=3, W=5\); got \(2, 2, 5\)\. Logits must be of dtype float\.$",
        ),
        (
            torch.zeros(2, 7, 3, 5),
            LABELS,
            ValueError,
            r"`predictions` must have shape \(N=2, K=4, h, w\); got \(2, 7, 3, 5\)\.$",
        ),
        (LABELS.to("meta"), LABELS, ValueError, r"all tensors must lie on one device; got `predictions` on meta"),
    ],
)
def test_bad_tensors_are_named(predictions, labels, kind, message):
    with pytest.raises(kind, match=message):
        MeanIoU(4).update(predictions, labels)


def test_merging_something_else_is_named():
    with pytest.raises(TypeError, match=r"^MeanIoU.merge: `other` must be a MeanIoU; got Linear\.$"):
        MeanIoU(3).merge(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"^MeanIoU.merge: `other` must have num_classes=3; got 4\.$"):
        MeanIoU(3).merge(MeanIoU(4))
