import pickle
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dastc.data import DISFlow, RAFTFlow, StreetClips, flow_estimators, from_rgb, to_rgb
from dastc.data.frames import renormalise

FRAME = torch.zeros(3, 40, 48)
opencv = pytest.mark.usefixtures("_opencv")


@pytest.fixture
def _opencv():
    pytest.importorskip("cv2", reason="DIS is OpenCV's")


def _error(flow, clip, seen):
    return float((flow - clip.flow[0]).norm(dim=0)[seen].mean())


@opencv
@pytest.mark.parametrize("domain", ["source", "target"])
def test_dis_finds_the_exact_flow_of_streets_and_its_direction(domain):
    clips, estimator = StreetClips(domain, length=3), DISFlow()
    errors = []
    for index in range(3):
        clip, seen = clips[index], clips.visible(index)[0]
        found = {
            "right": estimator(clip.frames[0], clip.frames[1]),
            "reversed": estimator(clip.frames[1], clip.frames[0]),
            "still": torch.zeros_like(clip.flow[0]),
        }
        errors.append([_error(flow, clip, seen) for flow in found.values()])
    right, reverse, still = torch.tensor(errors).mean(dim=0).tolist()
    assert right < 0.4 * still
    assert reverse > 1.5 * still


@opencv
def test_dis_returns_pixels_dx_first():
    current = torch.rand(3, 6, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    flow = DISFlow("fast")(current.roll((3, -2), dims=(1, 2)), current)
    assert flow.dtype == torch.float32
    assert flow.is_contiguous()
    assert flow.flatten(1).median(dim=1).values.round().tolist() == [-2.0, 3.0]


@opencv
def test_a_finer_scale_is_better_on_small_pictures():
    clips = StreetClips("source", length=2)
    errors = [
        sum(_error(DISFlow(finest_scale=scale)(*clips[i].frames), clips[i], clips.visible(i)[0]) for i in range(2))
        for scale in (0, 1, 2)
    ]
    assert errors[0] < errors[1] < errors[2]


@opencv
def test_the_convention_of_the_frames_does_not_matter():
    rgb = to_rgb(StreetClips("source", length=1)[0].frames)
    flows = [DISFlow("fast", convention=name)(*from_rgb(rgb, name)) for name in ("imagenet", "caffe", "half")]
    assert torch.equal(flows[0], flows[1])
    assert torch.equal(flows[0], flows[2])
    assert not torch.equal(flows[0], DISFlow("fast")(*from_rgb(rgb, "caffe")))


@opencv
@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(12, 120), st.booleans(), st.integers(0, 2))
def test_small_pictures_are_estimated_or_refused(short, long, upright, scale):
    size = (long, short) if upright else (short, long)
    frame, estimator = torch.rand(3, *size), DISFlow("ultrafast", finest_scale=scale)
    if min(size) >= max(8 * 2**scale, 12):
        assert estimator(frame, frame).shape == (2, *size)
    else:
        with pytest.raises(ValueError, match=rf"at least {max(8 * 2**scale, 12)} pixels .*H={size[0]}, W={size[1]}"):
            estimator(frame, frame)


class Shift(nn.Module):
    """Stands in for RAFT: says how much brighter the first picture is, and what it was given."""

    def __init__(self, answer=lambda flow: [flow * 0, flow]):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.answer, self.seen = answer, []

    def forward(self, first, second):
        self.seen = [first, second, self.training, torch.is_grad_enabled()]
        return self.answer(self.gain * (first - second)[:, :2])


def test_raft_gets_pictures_in_its_own_form_the_later_one_first():
    model = Shift()
    rgb = torch.randint(0, 256, (2, 3, 20, 131), dtype=torch.uint8).movedim(1, -1)
    previous, current = from_rgb(rgb)
    flow = RAFTFlow(model)(previous, current)
    first, second, training, with_gradient = model.seen
    assert first.shape == (1, 3, 128, 136)
    assert not training
    assert not with_gradient
    torch.testing.assert_close(first[0, :, :20, :131], from_rgb(rgb[1], "half"))
    torch.testing.assert_close(second[0, :, :20, :131], from_rgb(rgb[0], "half"))
    assert torch.equal(first[0, :, :, 131:], first[0, :, :, 130:131].expand(-1, -1, 5))
    assert torch.equal(first[0, :, 20:], first[0, :, 19:20].expand(-1, 108, -1))
    torch.testing.assert_close(flow, (first - second)[0, :2, :20, :131])  # the last of the list, cut to size


def test_raft_pads_no_more_than_it_must():
    model = Shift()
    RAFTFlow(model)(torch.zeros(3, 128, 257), torch.zeros(3, 128, 257))
    assert model.seen[0].shape == (1, 3, 128, 264)


def test_raft_takes_a_single_tensor_and_other_conventions():
    frames = from_rgb(torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8))
    plain = RAFTFlow(Shift())(*frames)
    torch.testing.assert_close(RAFTFlow(Shift(lambda flow: flow))(*frames), plain)
    torch.testing.assert_close(RAFTFlow(Shift(), convention="caffe")(*renormalise(frames, "caffe")), plain)


def test_raft_is_known_by_its_weights():
    one, same, other = RAFTFlow(Shift()), RAFTFlow(Shift()), RAFTFlow(Shift())
    other.model.gain.data += 1e-3
    assert repr(one) == repr(same) != repr(other)
    assert re.fullmatch(r"RAFTFlow\(Shift [0-9a-f]{16}, convention='imagenet'\)", repr(one))
    assert repr(RAFTFlow(Shift(), convention="half")) != repr(one)


@opencv
def test_dis_is_known_by_its_settings_and_travels_to_workers():
    assert repr(DISFlow("fast", finest_scale=1)) == "DISFlow('fast', finest_scale=1, convention='imagenet')"
    assert repr(pickle.loads(pickle.dumps(DISFlow("fast")))) == repr(DISFlow("fast"))


def test_without_opencv_dis_says_what_to_install(monkeypatch):
    monkeypatch.setattr("dastc.data.flow_files.find_spec", lambda _: None)
    with pytest.raises(RuntimeError, match=r'^DISFlow needs OpenCV, .* `pip install "dastc\[flow\]"`\.$'):
        flow_estimators.DISFlow()


@opencv
@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: DISFlow("slow"), ValueError, "DISFlow: `preset` must be one of 'ultrafast', 'fast', 'medium'"),
        (lambda: DISFlow(finest_scale=-1), ValueError, r"DISFlow: `finest_scale` must lie in \[0, 5\]; got -1"),
        (lambda: DISFlow()(FRAME, FRAME[:, 1:]), ValueError, r"DISFlow: `previous` must have shape \(3, H=39, W=48\)"),
        (lambda: DISFlow()(FRAME[None], FRAME), ValueError, r"DISFlow: `previous` must .*got \(1, 3, 40, 48\)"),
        (lambda: DISFlow()(FRAME, FRAME.byte()), TypeError, "DISFlow: `current` must be of dtype float"),
        (lambda: DISFlow(convention="x")(FRAME, FRAME), ValueError, "`convention` must be one of"),
        (lambda: RAFTFlow(Shift())(FRAME[:1], FRAME), ValueError, "RAFTFlow: `previous` must have shape"),
        (
            lambda: RAFTFlow(Shift(lambda flow: flow[..., ::8, ::8]))(FRAME, FRAME),
            ValueError,
            r"RAFTFlow: `model\(first, second\)` must have shape \(1, 2, H=128, W=128\); got \(1, 2, 16, 16\)",
        ),
        (lambda: RAFTFlow(Shift(lambda _: {}))(FRAME, FRAME), TypeError, "must be a tensor; got dict"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
