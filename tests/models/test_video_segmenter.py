import re
from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from dastc.models import TinySegmenter, VideoSegmenter, VideoStream
from dastc.models.video_segmenter import ScoreFusion

SEEDS = st.integers(0, 2**31 - 1)


class Pixels(nn.Module):
    """An image model whose logits are the channels of every ``stride``-th pixel, times a weight."""

    def __init__(self, stride=1, pack=lambda x: x):
        super().__init__()
        self.stride, self.pack = stride, pack
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return self.pack(self.scale * nn.functional.avg_pool2d(images, self.stride))


def _only_past(video):
    """Let the fusion return the past alone."""
    with torch.no_grad():
        video.fusion.mix.weight.zero_()
        for k in range(video.fusion.num_classes):
            video.fusion.mix.weight[k, video.fusion.num_classes + k] = 1
    return video


def _flow(dx, dy, b, t, h, w):
    return torch.tensor([dx, dy]).view(1, 1, 2, 1, 1).expand(b, t - 1, 2, h, w)


# --- ScoreFusion


def test_fusion_starts_as_the_identity_on_the_current_frame():
    current, previous = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    assert torch.equal(ScoreFusion(4)(current, previous), current)


def test_fusion_is_a_1x1_convolution_of_both():
    fusion, current, previous = ScoreFusion(3), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    nn.init.normal_(fusion.mix.weight)
    weight = fusion.mix.weight[:, :, 0, 0]
    by_hand = torch.einsum("kc,nchw->nkhw", weight[:, :3], current) + torch.einsum(
        "kc,nchw->nkhw", weight[:, 3:], previous
    )
    torch.testing.assert_close(fusion(current, previous), by_hand, rtol=1e-5, atol=1e-5)
    assert [name for name, _ in fusion.named_parameters()] == ["mix.weight"]


def test_fusion_learns_from_the_past():
    fusion, current, previous = ScoreFusion(2).double(), *torch.randn(2, 1, 2, 3, 3, dtype=torch.float64)
    upstream = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    fusion(current, previous).backward(upstream)
    expected = torch.einsum("nkhw,nchw->kc", upstream, torch.cat((current, previous), 1))
    torch.testing.assert_close(fusion.mix.weight.grad[:, :, 0, 0], expected)
    current.requires_grad_()
    previous.requires_grad_()
    assert gradcheck(fusion, (current, previous))


def test_reset_returns_to_the_identity():
    fusion, x = ScoreFusion(2), torch.randn(1, 2, 3, 3)
    nn.init.normal_(fusion.mix.weight)
    assert not torch.equal(fusion(x, x), x)
    fusion.reset_parameters()
    assert torch.equal(fusion(x, x + 1), x)


def test_fusion_state_round_trip():
    fusion, other, x = ScoreFusion(2), ScoreFusion(2), torch.randn(2, 1, 2, 3, 3)
    nn.init.normal_(fusion.mix.weight)
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(fusion(*x), other(*x))


def test_fusion_extra_repr():
    assert ScoreFusion(7).extra_repr() == "num_classes=7"


def test_fusion_errors():
    with pytest.raises(ValueError, match=r"^ScoreFusion: `num_classes` must be at least 1; got 0\.$"):
        ScoreFusion(0)
    message = "ScoreFusion: `current` must have shape (N, K=2, h, w); got (1, 3, 4, 4)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ScoreFusion(2)(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4))
    message = "ScoreFusion: `previous` must have shape (N=1, K=2, h=4, w=5); got (1, 2, 5, 4)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ScoreFusion(2)(torch.zeros(1, 2, 4, 5), torch.zeros(1, 2, 5, 4))


# --- VideoSegmenter


@pytest.mark.parametrize("time", [1, 2, 3])
@pytest.mark.parametrize("with_flow", [False, True])
def test_it_starts_as_the_image_model(time, with_flow):
    image = TinySegmenter(3, width=16)
    frames = torch.randn(2, time, 3, 20, 24)
    flow = 3 * torch.randn(2, time - 1, 2, 20, 24) if with_flow else None
    out = VideoSegmenter(image, 3)(frames, flow)
    assert out.shape == (2, time, 3, 5, 6)
    assert torch.equal(out, image(frames.flatten(0, 1)).view_as(out))
    for b in range(2):
        for t in range(time):
            torch.testing.assert_close(out[b, t], image(frames[b, t, None])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("time", [1, 2, 4])
def test_without_flow_the_past_is_the_frame_before(time):
    frames = torch.randn(2, time, 3, 4, 5)
    out = _only_past(VideoSegmenter(Pixels(), 3))(frames)
    assert torch.equal(out[:, 0], frames[:, 0])  # the first frame sees itself twice
    assert torch.equal(out[:, 1:], frames[:, :-1])


def test_the_past_comes_along_the_flow_and_stays_inside_the_picture():
    frames = torch.randn(2, 3, 3, 4, 5)
    out = _only_past(VideoSegmenter(Pixels(), 3))(frames, _flow(-2.0, 1.0, 2, 3, 4, 5))
    expected = frames.clone()  # where the sample point lies outside, the frame's own logits
    expected[:, 1:, :, :3, 2:] = frames[:, :-1, :, 1:, :3]
    torch.testing.assert_close(out, expected)


def test_each_frame_follows_its_own_flow():
    frames = torch.randn(1, 3, 3, 1, 4)
    flow = torch.zeros(1, 2, 2, 1, 4)
    flow[:, 1, 0] = -1
    out = _only_past(VideoSegmenter(Pixels(), 3))(frames, flow)
    torch.testing.assert_close(out[:, 1], frames[:, 0])
    torch.testing.assert_close(out[0, 2, :, :, 1:], frames[0, 1, :, :, :3])
    torch.testing.assert_close(out[0, 2, :, :, 0], frames[0, 2, :, :, 0])


def test_flow_is_brought_to_the_grid_of_the_logits():
    frames = torch.randn(1, 2, 3, 6, 12)
    video = _only_past(VideoSegmenter(Pixels(stride=3), 3))
    own = nn.functional.avg_pool2d(frames.flatten(0, 1), 3)  # (2, 3, 2, 4)
    out = video(frames, _flow(-3.0, -3.0, 1, 2, 6, 12))  # one cell in each direction
    torch.testing.assert_close(out[0, 1, :, 1:, 1:], own[0, :, :1, :3])
    torch.testing.assert_close(out[0, 1, :, 0], own[1, :, 0])


@pytest.mark.parametrize("with_flow", [False, True])
def test_the_past_passes_without_gradient(with_flow):
    video = VideoSegmenter(Pixels(), 3)
    nn.init.normal_(video.fusion.mix.weight)
    frames = torch.randn(1, 3, 3, 4, 5, requires_grad=True)
    flow = _flow(9.0, 0.0, 1, 3, 4, 5) if with_flow else None  # outside: own logits stand in, without gradient, too
    upstream = torch.randn(1, 3, 4, 5)
    video(frames, flow)[:, 1].backward(upstream)
    assert frames.grad[:, 0].eq(0).all()
    assert frames.grad[:, 2].eq(0).all()
    own_part = torch.einsum("kc,nkhw->nchw", video.fusion.mix.weight[:, :3, 0, 0], upstream)
    torch.testing.assert_close(frames.grad[:, 1], own_part)
    assert video.fusion.mix.weight.grad[:, 3:].ne(0).all()
    assert video.image_model.scale.grad.ne(0)


@given(SEEDS)
def test_samples_do_not_mix(seed):
    rng = torch.Generator().manual_seed(seed)
    video = VideoSegmenter(Pixels(2), 3)
    with torch.no_grad():
        video.fusion.mix.weight.copy_(torch.randn(3, 6, 1, 1, generator=rng))
    frames, flow = torch.randn(3, 2, 3, 4, 6, generator=rng), 2 * torch.randn(3, 1, 2, 4, 6, generator=rng)
    each = [video(frames[b : b + 1], flow[b : b + 1]) for b in range(3)]
    torch.testing.assert_close(video(frames, flow), torch.cat(each))


@pytest.mark.parametrize(
    "pack",
    [
        lambda x: OrderedDict(out=x, aux=x + 1),
        lambda x: {"logits": x},
        lambda x: SimpleNamespace(logits=x, hidden_states=None),
    ],
)
def test_image_models_of_other_libraries(pack):
    frames = torch.randn(2, 2, 3, 4, 5)
    assert torch.equal(VideoSegmenter(Pixels(pack=pack), 3)(frames), frames)


def test_any_memory_format():
    frames = torch.randn(2, 2, 3, 16, 16)
    image = TinySegmenter(3, width=16)
    expected = VideoSegmenter(image, 3)(frames)
    out = VideoSegmenter(image.to(memory_format=torch.channels_last), 3)(frames, torch.zeros(2, 1, 2, 16, 16))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    video = _only_past(VideoSegmenter(Pixels(), 3)).to(dtype)
    frames = torch.randn(1, 2, 3, 4, 5).to(dtype)
    out = video(frames, _flow(1.0, 0.0, 1, 2, 4, 5))  # flow need not have the model's dtype
    assert out.dtype == dtype
    torch.testing.assert_close(out[:, 1, :, :, :4], frames[:, 0, :, :, 1:])


def test_half_precision_does_not_round_the_flow():
    frames = (torch.arange(160) % 2).expand(1, 2, 3, 1, 160)
    video = _only_past(VideoSegmenter(Pixels(), 3)).to(torch.bfloat16)
    out = video(frames.bfloat16(), _flow(-130.25, 0.0, 1, 2, 1, 160))  # bfloat16 would make -130 of it
    blend = 0.25 + 0.5 * (torch.arange(131, 160) % 2)
    torch.testing.assert_close(out[0, 1, 0, 0, 131:].float(), blend, rtol=0.01, atol=0)


def test_state_holds_both_parts():
    video = VideoSegmenter(TinySegmenter(3, width=16), 3)
    assert {name.split(".")[0] for name in video.state_dict()} == {"image_model", "fusion"}
    nn.init.normal_(video.fusion.mix.weight)
    other, frames = VideoSegmenter(TinySegmenter(3, width=16), 3), torch.randn(1, 2, 3, 16, 16)
    other.load_state_dict(video.state_dict())
    assert torch.equal(other(frames), video(frames))


def test_extra_repr():
    assert VideoSegmenter(Pixels(), 3).extra_repr() == "num_classes=3"


def test_it_compiles_without_a_break():
    video = VideoSegmenter(Pixels(2), 3)
    nn.init.normal_(video.fusion.mix.weight)
    frames, flow = torch.randn(1, 2, 3, 4, 6), torch.randn(1, 1, 2, 4, 6)
    compiled = torch.compile(video, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(frames, flow), video(frames, flow))


def test_errors():
    video = VideoSegmenter(Pixels(), 3)
    with pytest.raises(ValueError, match=r"^ScoreFusion: `num_classes` must be at least 1; got 0\.$"):
        VideoSegmenter(Pixels(), 0)
    message = "VideoSegmenter: `frames` must have shape (B, T, C, H, W); got (1, 3, 4, 4)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        video(torch.zeros(1, 3, 4, 4))
    message = "VideoSegmenter: `frames` must be of dtype float; got torch.uint8."
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        video(torch.zeros(1, 2, 3, 4, 4, dtype=torch.uint8))
    message = "VideoSegmenter: `flow` must have shape (B=1, T-1=1, 2, H=4, W=5); got (1, 2, 2, 4, 5)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        video(torch.zeros(1, 2, 3, 4, 5), torch.zeros(1, 2, 2, 4, 5))
    message = "ScoreFusion: `current` must have shape (N, K=4, h, w); got (2, 3, 4, 5)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        VideoSegmenter(Pixels(), 4)(torch.zeros(1, 2, 3, 4, 5))
    with pytest.raises(
        ValueError, match=r"^TinySegmenter: `images` must have shape \(N, 3, H, W\); got \(2, 4, 8, 8\)"
    ):
        VideoSegmenter(TinySegmenter(3), 3)(torch.zeros(1, 2, 4, 8, 8))
    with pytest.raises(TypeError, match=r"^logits_of: the model must return a tensor"):
        VideoSegmenter(Pixels(pack=lambda x: [x]), 3)(torch.zeros(1, 2, 3, 4, 5))


@pytest.mark.parametrize("channels", [1, 5])
def test_frames_may_have_as_many_channels_as_the_image_model_takes(channels):
    video = VideoSegmenter(nn.Conv2d(channels, 3, 1), 3)
    with torch.no_grad():
        video.fusion.mix.weight.normal_(generator=torch.Generator().manual_seed(1))
    frames, flow = torch.randn(2, 3, channels, 6, 8), torch.randn(2, 2, 2, 6, 8)
    found, stream = video(frames, flow), VideoStream(video)
    assert found.shape == (2, 3, 3, 6, 8)
    said = [stream(frames[:, t], flow[:, t - 1] if t else None) for t in range(3)]
    torch.testing.assert_close(torch.stack(said, dim=1), found)


@pytest.mark.parametrize("with_flow", [False, True])
def test_a_stream_says_what_the_whole_video_says(with_flow):
    model = VideoSegmenter(TinySegmenter(3), 3)
    with torch.no_grad():
        model.fusion.mix.weight.normal_(generator=torch.Generator().manual_seed(1))
    frames, flow = torch.randn(2, 4, 3, 16, 24), torch.randn(2, 3, 2, 16, 24) * 4
    whole = model(frames, flow if with_flow else None)
    stream = VideoStream(model)
    for _ in range(2):  # the second video is told as the first
        said = [stream(frames[:, 0])]
        said += [stream(frames[:, t], flow[:, t - 1] if with_flow else None) for t in range(1, 4)]
        torch.testing.assert_close(torch.stack(said, dim=1), whole)
        stream.reset()


def test_a_stream_runs_an_image_model_on_each_frame():
    model, frames = TinySegmenter(3), torch.randn(3, 1, 3, 16, 24)
    stream = VideoStream(model)
    for frame in frames:
        said = stream(frame, torch.randn(1, 2, 16, 24))
        assert torch.equal(said, model(frame))
        assert not said.requires_grad


def test_a_stream_passes_each_frame_through_the_model_once():
    model, calls = TinySegmenter(3), []
    model.register_forward_hook(lambda *_: calls.append(1))
    stream = VideoStream(VideoSegmenter(model, 3))
    for frame in torch.randn(5, 1, 3, 16, 24):
        stream(frame)
    assert len(calls) == 5


def test_a_stream_refuses_what_does_not_fit():
    stream = VideoStream(VideoSegmenter(TinySegmenter(3), 3))
    stream(torch.zeros(1, 3, 16, 24))
    with pytest.raises(
        ValueError, match=r"`frame` must keep its size .*\(1, 3, 4, 6\) came before; got \(1, 3, 4, 8\)"
    ):
        stream(torch.zeros(1, 3, 16, 32))
    with pytest.raises(ValueError, match=r"`flow` must have shape \(B=1, 2, H=16, W=24\); got \(1, 2, 4, 6\)"):
        stream(torch.zeros(1, 3, 16, 24), torch.zeros(1, 2, 4, 6))
    with pytest.raises(ValueError, match=r"`frame` must have shape \(B, C, H, W\); got \(3, 16, 24\)"):
        stream(torch.zeros(3, 16, 24))
