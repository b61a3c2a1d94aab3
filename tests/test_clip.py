import pickle
import re

import pytest
import torch

from dastc import Clip, stack_clips
from dastc.clip import check_clip, map_clip


def _clip(b=2, t=3, h=4, w=5, **changes):
    clip = Clip(
        torch.arange(b * t * 3 * h * w).view(b, t, 3, h, w).float(),
        torch.arange(b * t * h * w).view(b, t, h, w),
        torch.arange(b * (t - 1) * 2 * h * w).view(b, t - 1, 2, h, w).float(),
        torch.arange(b * t * h * w).view(b, t, h, w) / (b * t * h * w),
    )
    return clip._replace(**changes)


def _equal(one, two):
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(one, two, strict=True))


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_only_frames_are_required():
    assert Clip(torch.zeros(1, 1, 3, 2, 2))[1:] == (None, None, None)


def test_survives_pickling():
    clip = _clip(weights=None)
    assert _equal(pickle.loads(pickle.dumps(clip)), clip)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_last_keeps_the_end_and_the_flow_within_it(frames):
    clip = _clip()
    found = clip.last(frames)
    start = 3 - frames
    assert torch.equal(found.frames, clip.frames[:, start:])
    assert torch.equal(found.labels, clip.labels[:, start:])
    assert torch.equal(found.weights, clip.weights[:, start:])
    if frames == 1:
        assert found.flow is None
    else:
        assert torch.equal(found.flow, clip.flow[:, start:])
    check_clip("test", "clip", found, labelled=True)


def test_last_of_a_single_clip_and_of_a_clip_of_frames_only():
    clip = _clip()
    single = map_clip(clip, lambda x: x[1])
    assert _equal(single.last(2), map_clip(clip.last(2), lambda x: x[1]))
    assert _equal(Clip(clip.frames).last(), Clip(clip.frames[:, 2:]))
    assert clip.last().frames.shape[1] == 1


@pytest.mark.parametrize("frames", [0, 4, -1])
def test_last_of_more_frames_than_there_are(frames):
    with _raises(ValueError, f"Clip.last: `frames` must lie in [1, T=3]; got {frames}."):
        _clip().last(frames)


def test_to_moves_every_tensor_and_leaves_what_is_missing():
    moved = _clip(weights=None).to("meta")
    assert [None if x is None else x.device.type for x in moved] == ["meta", "meta", "meta", None]


def test_map_touches_every_field_once():
    clip, seen = _clip(labels=None), []
    found = map_clip(clip, lambda x: seen.append(x) or x + 1)
    assert [id(x) for x in seen] == [id(clip.frames), id(clip.flow), id(clip.weights)]
    assert found.labels is None
    assert torch.equal(found.flow, clip.flow + 1)


@pytest.mark.parametrize("missing", [(), ("labels",), ("flow", "weights"), ("labels", "flow", "weights")])
def test_stacking_undoes_taking_apart(missing):
    clip = _clip(**dict.fromkeys(missing))
    parts = [map_clip(clip, lambda x, i=i: x[i]) for i in range(2)]
    stacked = stack_clips(parts)
    assert isinstance(stacked, Clip)
    assert _equal(stacked, clip)


def test_stack_clips_collates_a_loader():
    data = [map_clip(_clip(b=1), lambda x, i=i: x[0] + i) for i in range(4)]
    batches = list(torch.utils.data.DataLoader(data, batch_size=2, collate_fn=stack_clips))
    assert [x.frames.shape for x in batches] == [(2, 3, 3, 4, 5)] * 2
    assert torch.equal(batches[1].frames[1], data[3].frames)


def test_errors_of_stacking():
    single = map_clip(_clip(), lambda x: x[0])
    with _raises(ValueError, "stack_clips: `clips` must hold at least one clip; got none."):
        stack_clips([])
    text = "stack_clips: `labels` must have one shape in all clips; got (3, 4, 5), missing."
    with _raises(ValueError, text):
        stack_clips([single, single._replace(labels=None)])
    text = "stack_clips: `frames` must have one shape in all clips; got (2, 3, 4, 5), (3, 3, 4, 5)."
    with _raises(ValueError, text):
        stack_clips([single, single.last(2)])


def test_check_clip_returns_the_sizes():
    assert check_clip("test", "clip", _clip(), labelled=True) == {"B": 2, "T": 3, "H": 4, "W": 5}
    assert check_clip("test", "clip", Clip(torch.zeros(0, 1, 3, 4, 5))) == {"B": 0, "T": 1, "H": 4, "W": 5}
    one = Clip(torch.zeros(2, 1, 3, 4, 5), flow=torch.zeros(2, 0, 2, 4, 5))
    assert check_clip("test", "clip", one)["T"] == 1


@pytest.mark.parametrize("channels", [1, 5])
def test_frames_may_have_any_number_of_channels(channels):
    clip = _clip(frames=torch.zeros(2, 3, channels, 4, 5))
    assert check_clip("test", "clip", clip, labelled=True) == {"B": 2, "T": 3, "H": 4, "W": 5}
    assert clip.last().frames.shape == (2, 1, channels, 4, 5)


_LABELS = torch.zeros(2, 3, 4, 5, dtype=torch.int64)
_FLOW = "One flow field between two frames."


@pytest.mark.parametrize(
    ("clip", "kind", "text"),
    [
        (tuple(_clip()), TypeError, "`clip` must be a dastc.Clip; got tuple."),
        (_clip(frames=None), TypeError, "`clip.frames` must be a tensor; got NoneType."),
        (
            _clip(frames=torch.zeros(2, 3, 4, 5)), ValueError,
            "`clip.frames` must have shape (B, T, C, H, W); got (2, 3, 4, 5).",
        ),
        (
            _clip(frames=torch.zeros(2, 3, 1, 3, 4, 5)), ValueError,
            "`clip.frames` must have shape (B, T, C, H, W); got (2, 3, 1, 3, 4, 5).",
        ),
        (
            _clip(frames=torch.zeros(2, 3, 3, 4, 5).byte()), TypeError,
            "`clip.frames` must be of dtype float; got torch.uint8.",
        ),
        (_clip(labels=None), ValueError, "`clip.labels` must be given; got None."),
        (
            _clip(labels=_LABELS[:, :2]), ValueError,
            "`clip.labels` must have shape (B=2, T=3, H=4, W=5); got (2, 2, 4, 5).",
        ),
        (_clip(labels=_LABELS.int()), TypeError, "`clip.labels` must be of dtype int64; got torch.int32."),
        (
            _clip(flow=torch.zeros(2, 3, 2, 4, 5)), ValueError,
            f"`clip.flow` must have shape (B=2, T-1=2, 2, H=4, W=5); got (2, 3, 2, 4, 5). {_FLOW}",
        ),
        (
            _clip(flow=torch.zeros(2, 2, 3, 4, 5)), ValueError,
            f"`clip.flow` must have shape (B=2, T-1=2, 2, H=4, W=5); got (2, 2, 3, 4, 5). {_FLOW}",
        ),
        (
            _clip(flow=torch.zeros(2, 2, 2, 4, 5).long()), TypeError,
            "`clip.flow` must be of dtype float; got torch.int64.",
        ),
        (
            _clip(weights=torch.zeros(2, 3, 5, 4)), ValueError,
            "`clip.weights` must have shape (B=2, T=3, H=4, W=5); got (2, 3, 5, 4).",
        ),
        (_clip(weights=_LABELS), TypeError, "`clip.weights` must be of dtype float; got torch.int64."),
        (
            _clip(weights=None, labels=_LABELS.to("meta")), ValueError,
            "all tensors must lie on one device; got `clip.frames` on cpu, `clip.labels` on meta, `clip.flow` on cpu.",
        ),
    ],
)  # fmt: skip
def test_errors_of_check_clip(clip, kind, text):
    with _raises(kind, f"test: {text}"):
        check_clip("test", "clip", clip, labelled=True)
