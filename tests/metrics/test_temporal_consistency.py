import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc import debug_checks
from dastc.metrics import TemporalConsistency

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LABELS = torch.zeros(2, 3, 4, 5, dtype=torch.int64)


def _measure(*args):
    metric = TemporalConsistency().to(DEVICE)
    metric.update(*(None if x is None else x.to(DEVICE) for x in args))
    return float(metric.compute())


def _by_loop(predictions, flow, valid):
    kept = counted = 0
    b, t, h, w = predictions.shape
    for i in range(b):
        for j in range(t - 1):
            for r in range(h):
                for c in range(w):
                    dx, dy = flow[i, j, :, r, c].tolist()
                    if not bool(valid[i, j, r, c]) or not (0 <= c + dx <= w - 1 and 0 <= r + dy <= h - 1):
                        continue
                    counted += 1
                    kept += int(predictions[i, j + 1, r, c] == predictions[i, j, round(r + dy), round(c + dx)])
    return 100 * kept / counted if counted else math.nan


def test_without_flow_frames_are_compared_in_place():
    predictions = torch.tensor([[[[0, 1, 2, 3]], [[0, 1, 2, 0]], [[1, 1, 0, 0]]]])
    assert _measure(predictions) == 100 * (3 + 2) / 8


def test_flow_says_where_the_earlier_frame_is_sampled():
    # everything moved one pixel to the right and two down: the later frame looks one left and two up
    earlier = torch.arange(30).view(1, 1, 5, 6)
    predictions = torch.cat([earlier, earlier.roll((2, 1), (2, 3))], dim=1)
    back = torch.tensor([-1.0, -2.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 5, 6)
    assert _measure(predictions, back) == 100
    assert _measure(predictions, -back) == 0
    assert _measure(predictions, back.flip(2)) == 0
    assert _measure(predictions) == 0


@given(st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_equals_a_loop_over_pixels(seed, frames):
    rng = torch.Generator().manual_seed(seed)
    predictions = torch.randint(0, 3, (2, frames, 4, 5), generator=rng)
    flow = (3 * torch.randn(2, frames - 1, 2, 4, 5, generator=rng)).round(decimals=1).double()
    valid = torch.rand(2, frames - 1, 4, 5, generator=rng) < 0.7
    found, want = _measure(predictions, flow, valid), _by_loop(predictions, flow, valid)
    assert found == pytest.approx(want, nan_ok=True)


def test_what_is_not_valid_does_not_count():
    predictions = torch.tensor([[[[0, 1, 2, 3]], [[0, 0, 0, 3]]]])
    assert _measure(predictions, None, torch.tensor([[[[True, True, False, False]]]])) == 50


def test_points_outside_or_not_finite_do_not_count():
    predictions = torch.tensor([[[[0, 1, 2, 3]], [[0, 0, 0, 3]]]])
    flow = torch.zeros(1, 1, 2, 1, 4)
    flow[0, 0, 0, 0] = torch.tensor([-0.1, math.nan, math.inf, 0.0])
    assert _measure(predictions, flow) == 100
    flow[0, 0, 1] = 0.1
    assert math.isnan(_measure(predictions, flow))


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (0, 2, 3, 4)])
def test_nothing_to_compare_is_nan(shape):
    b, t, h, w = shape
    predictions, flow = torch.zeros(shape, dtype=torch.int64), torch.zeros(b, t - 1, 2, h, w)
    assert math.isnan(_measure(predictions))
    assert math.isnan(_measure(predictions, flow))


def test_wide_pictures_keep_whole_coordinates_in_half_precision():
    earlier = torch.arange(5000).view(1, 1, 1, -1)
    predictions = torch.cat([earlier, earlier.roll(1, 3)], dim=1)
    back = torch.tensor([-1.0, 0.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 1, 5000).to(torch.bfloat16)
    assert _measure(predictions, back) == 100


def test_merging_parts_equals_one_pass_and_reset_forgets():
    predictions = torch.randint(0, 3, (4, 3, 5, 6))
    whole, first, second = (TemporalConsistency() for _ in range(3))
    whole.update(predictions)
    first.update(predictions[:1])
    second.update(predictions[1:])
    first.merge(second)
    assert torch.equal(first.counts, whole.counts)
    restored = TemporalConsistency()
    restored.load_state_dict(first.state_dict())
    assert restored.compute() == whole.compute()
    first.reset()
    assert first.counts.tolist() == [0, 0]


def test_update_compiles_without_a_break():
    metric, want = TemporalConsistency(), TemporalConsistency()
    predictions, flow = torch.randint(0, 3, (2, 3, 4, 5)), torch.randn(2, 2, 2, 4, 5)
    torch.compile(metric.update, fullgraph=True, backend="eager")(predictions, flow)
    want.update(predictions, flow)
    assert torch.equal(metric.counts, want.counts)


@pytest.mark.skipif(DEVICE == "cpu", reason="only a device can be waited for")
def test_update_does_not_wait_for_the_device(no_wait):
    metric, predictions = TemporalConsistency().to(DEVICE), LABELS.to(DEVICE)
    flow = torch.randn(2, 2, 2, 4, 5, device=DEVICE)
    with no_wait():
        metric.update(predictions, flow)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((LABELS[0],), ValueError, r"^TemporalConsistency.update: `predictions` must have shape \(B, T, H, W\); got"),
        ((LABELS.float(),), TypeError, r"`predictions` must be of dtype int64; got torch.float32\.$"),
        (
            (LABELS, torch.zeros(2, 3, 2, 4, 5)),
            ValueError,
            r"`flow` must have shape \(B=2, T-1=2, 2, H=4, W=5\); got \(2, 3, 2, 4, 5\)\. One flow field between two",
        ),
        ((LABELS, torch.zeros(2, 2, 2, 4, 5).long()), TypeError, r"`flow` must be of dtype float; got torch.int64\.$"),
        (
            (LABELS, None, torch.zeros(2, 2, 4, 6).bool()),
            ValueError,
            r"`valid` must have shape \(B=2, T-1=2, H=4, W=5\); got \(2, 2, 4, 6\)\. One mask for each pair of frames",
        ),
        ((LABELS, None, torch.zeros(2, 2, 4, 5)), TypeError, r"`valid` must be of dtype bool; got torch.float32\.$"),
        ((LABELS.to("meta"),), ValueError, r"must lie on one device; got `predictions` on meta, `counts \(the metric"),
    ],
)
def test_bad_tensors_are_named(arguments, kind, message):
    with pytest.raises(kind, match=message):
        TemporalConsistency().update(*arguments)


def test_merging_something_else_and_flow_not_finite_are_named():
    metric = TemporalConsistency()
    with pytest.raises(TypeError, match=r"^TemporalConsistency.merge: `other` must be a TemporalConsistency; got int"):
        metric.merge(3)
    with debug_checks(), pytest.raises(ValueError, match=r"^TemporalConsistency.update: `flow` must be finite; got"):
        metric.update(LABELS, torch.full((2, 2, 2, 4, 5), math.nan))
