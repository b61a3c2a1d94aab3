import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from dastc.data import StreetClips
from dastc.data._street.planes import flow_between
from dastc.functional import compose_flow, flow_warp
from dastc.functional.flow import flip_flow, flow_consistency

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))
STEP = st.floats(-3, 3, width=16)
NAN_AT_END = torch.tensor([0.0, torch.nan], device=DEVICE).expand(1, 2, 1, 2)


def _flow(seed, size, scale=2.0):
    n, height, width = size
    return scale * torch.randn((n, 2, height, width), generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def _constant(dx, dy, size):
    n, height, width = size
    return torch.tensor([dx, dy], device=DEVICE).view(1, 2, 1, 1).expand(n, 2, height, width)


def _inside(dx, dy, size):
    x = torch.arange(size[2], device=DEVICE) + dx
    y = torch.arange(size[1], device=DEVICE)[:, None] + dy
    return ((x >= 0) & (x <= size[2] - 1) & (y >= 0) & (y <= size[1] - 1)).expand(size)


@given(SEEDS, SIZES)
def test_standing_still_before_or_after_changes_nothing(seed, size):
    flow, still = _flow(seed, size), _constant(0.0, 0.0, size)
    composed, valid = compose_flow(still, flow)
    torch.testing.assert_close(composed, flow, atol=1e-4, rtol=1e-4)
    assert valid.all()
    composed, valid = compose_flow(flow, still)
    assert torch.equal(composed, flow)
    assert torch.equal(valid, flow_warp(flow, flow)[1])


@given(SIZES, STEP, STEP, STEP, STEP)
def test_translations_add_up(size, a, b, c, d):
    composed, valid = compose_flow(_constant(a, b, size), _constant(c, d, size))
    torch.testing.assert_close(composed, _constant(a + c, b + d, size), atol=1e-5, rtol=1e-5)
    assert torch.equal(valid, _inside(a, b, size))


@given(SEEDS, SIZES)
def test_whole_steps_are_looked_up_exactly(seed, size):
    steps = _flow(seed, size).round()
    second = _flow(seed + 1, size)
    composed, valid = compose_flow(steps, second)
    for i, y, x in valid.nonzero().tolist():
        dx, dy = steps[i, :, y, x].long().tolist()
        torch.testing.assert_close(
            composed[i, :, y, x], steps[i, :, y, x] + second[i, :, y + dy, x + dx], atol=1e-4, rtol=1e-4
        )


def test_composition_in_the_wrong_order_differs():
    # one pixel right, then what stands there: (first, second) is not (second, first)
    first = _constant(1.0, 0.0, (1, 1, 3))
    second = torch.tensor([0.0, 5.0, 7.0], device=DEVICE).view(1, 1, 1, 3).repeat(1, 2, 1, 1)
    assert compose_flow(first, second)[0][0, 0, 0].tolist() == [6.0, 8.0, 8.0]
    assert compose_flow(first, second)[1][0, 0].tolist() == [True, True, False]


def test_unknown_flow_stays_unknown():
    known = torch.zeros(1, 2, 1, 2, device=DEVICE)
    for flows in ((NAN_AT_END, known), (known, NAN_AT_END)):
        composed, valid = compose_flow(*flows)
        assert not valid[0, 0, 1]
        assert composed[0, :, 0, 1].isnan().all()


def test_half_precision_composes_in_single_and_stays_half():
    flow = _flow(0, (1, 3, 600)).half()
    composed, _ = compose_flow(flow, flow)
    assert composed.dtype == torch.float16
    torch.testing.assert_close(composed, compose_flow(flow.float(), flow.float())[0].half())


@pytest.mark.parametrize("domain", ["source", "target"])
def test_two_exact_steps_make_the_exact_step_over_two_frames(domain):
    clips = StreetClips(domain, length=3, frames=3, size=(96, 160))
    errors = []
    for index in range(3):
        layout, motion, _ = clips._streams(index)
        take = clips._film(layout, motion)
        wanted = torch.from_numpy(flow_between(take.view._replace(patch=take.view.patch[::2]), take.to_picture[::2]))
        steps = clips[index].flow
        composed, valid = compose_flow(steps[1:], steps[:1])
        # the middle frame shows the point, and so do its neighbours: at outlines, two motions are interpolated
        seen = clips.visible(index)[1] & valid[0]
        label = torch.from_numpy(take.view.patch[1].astype("float32"))[None, None]
        warped = flow_warp(label, steps[1:])[0][0, 0]
        same = seen & (warped == torch.from_numpy(take.view.patch[2].astype("float32")))
        errors.append((composed - wanted)[0].norm(dim=0)[same])
        assert same.float().mean() > 0.6
    errors = torch.cat(errors)
    assert errors.median() < 1e-3
    assert errors.quantile(0.99) < 0.02
    assert errors.max() < 0.3


@given(SIZES, STEP, STEP)
def test_a_translation_and_its_opposite_are_consistent_inside(size, dx, dy):
    flow = _constant(dx, dy, size)
    assert torch.equal(flow_consistency(flow, -flow), _inside(dx, dy, size))


@example(1.0, 0.22, 0.0)  # between 4 and 5 squared pixels: both flows count
@given(st.floats(0.125, 4), st.floats(0, 1), st.floats(0, 4))
def test_the_thresholds_are_those_of_the_formula(error, relative, absolute):
    size = (1, 1, 9)
    flow, reverse = _constant(2.0, 0.0, size), _constant(-2.0 + error, 0.0, size)
    allowed = relative * (4 + (error - 2) ** 2) + absolute
    if abs(error**2 - allowed) < 1e-3:
        return
    got = flow_consistency(flow, reverse, relative=relative, absolute=absolute)
    assert got[0, 0].tolist() == [error**2 <= allowed] * 7 + [False] * 2


def test_the_reverse_flow_is_read_where_the_flow_points():
    flow = _constant(1.0, 0.0, (1, 1, 3))
    reverse = torch.zeros(1, 2, 1, 3, device=DEVICE)
    reverse[0, 0, 0, 1] = -1
    assert flow_consistency(flow, reverse)[0, 0].tolist() == [True, False, False]


def test_unknown_flow_is_not_consistent():
    known = torch.zeros(1, 2, 1, 2, device=DEVICE)
    assert not flow_consistency(NAN_AT_END, known)[0, 0, 1]
    assert not flow_consistency(known, NAN_AT_END)[0, 0, 1]


def test_exact_flow_forth_and_back_fails_where_the_point_was_hidden():
    clips = StreetClips("source", length=4)
    for index in range(4):
        layout, motion, _ = clips._streams(index)
        take = clips._film(layout, motion)
        backwards = take.view._replace(patch=take.view.patch[::-1])
        reverse = torch.from_numpy(flow_between(backwards, take.to_picture[::-1]))
        visible = clips.visible(index)[0]
        assert flow_consistency(clips[index].flow, reverse)[0][visible].float().mean() > 0.98
        # much of what gets hidden moves hardly other than what hides it: only a strict check notices
        hidden = ~visible & flow_warp(reverse, clips[index].flow)[1][0]
        strict = flow_consistency(clips[index].flow, reverse, relative=0.0, absolute=0.01)[0]
        assert (~strict[hidden]).float().mean() > 0.6


@given(SEEDS, SIZES)
def test_flipping_twice_changes_nothing_and_once_mirrors_the_warp(seed, size):
    flow = _flow(seed, size).round()
    assert torch.equal(flip_flow(flip_flow(flow)), flow)
    picture = torch.rand((size[0], 3, *size[1:]), generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    warped, valid = flow_warp(picture, flow)
    mirrored, mirrored_valid = flow_warp(picture.flip(-1), flip_flow(flow))
    torch.testing.assert_close(mirrored, warped.flip(-1))
    assert torch.equal(mirrored_valid, valid.flip(-1))


def test_flipping_takes_any_leading_axes():
    flow = torch.randn(2, 3, 2, 4, 5, device=DEVICE)
    assert torch.equal(flip_flow(flow)[1, 2], flip_flow(flow[1, 2]))


ZERO = torch.zeros(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: compose_flow(ZERO, ZERO[..., 1:]), ValueError, r"`second` must have .*H=3, W=4\); got \(1, 2, 3, 3\)"),
        (lambda: compose_flow(ZERO[0], ZERO), ValueError, r"`first` must have shape \(N, 2, H, W\); got \(2, 3, 4\)"),
        (lambda: compose_flow(ZERO, ZERO.long()), TypeError, "`second` must be of dtype float; got torch.int64"),
        (lambda: flow_consistency(ZERO, ZERO[:, :1]), ValueError, r"`reverse` must have .*got \(1, 1, 3, 4\)"),
        (lambda: flow_consistency(ZERO, ZERO, relative=-1), ValueError, "`relative` must be at least 0; got -1"),
        (lambda: flow_consistency(ZERO, ZERO, absolute=-1), ValueError, "`absolute` must be at least 0; got -1"),
        (lambda: flip_flow(ZERO[0, 0]), ValueError, r"`flow` must have shape \(..., 2, H, W\); got \(3, 4\)"),
        (lambda: flip_flow(ZERO.transpose(1, 2)), ValueError, r"`flow` must have .*got \(1, 3, 2, 4\)"),
        (lambda: flip_flow(ZERO.int()), TypeError, "`flow` must be of dtype float; got torch.int32"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
