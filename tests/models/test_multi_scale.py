import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dastc.models import MultiScale, TinySegmenter


class Half(nn.Module):
    """Logits at half the resolution, from the colours alone; notes the sizes that it sees."""

    def __init__(self):
        super().__init__()
        self.mix, self.seen = nn.Conv2d(3, 4, 1), []

    def forward(self, images):
        self.seen.append(tuple(images.shape[-2:]))
        return self.mix(F.avg_pool2d(images, 2, ceil_mode=True))


def test_probabilities_are_averaged_at_the_resolution_of_the_first_scale():
    model, images = Half(), torch.randn(2, 3, 12, 20)
    found = MultiScale(model, (1.0, 0.5, 1.5))(images)
    assert model.seen == [(12, 20), (6, 10), (18, 30)]
    small = F.interpolate(images, size=(6, 10), mode="bilinear", antialias=True)
    large = F.interpolate(images, size=(18, 30), mode="bilinear")
    said = [F.interpolate(model(x), size=(6, 10), mode="bilinear").softmax(1) for x in (images, small, large)]
    torch.testing.assert_close(found.exp(), sum(said) / 3)


@given(st.integers(4, 30), st.integers(4, 30))
def test_one_scale_says_what_the_model_says(height, width):
    model, images = TinySegmenter(3, width=16), torch.randn(1, 3, height, width)
    torch.testing.assert_close(MultiScale(model, (1.0,))(images), model(images).log_softmax(1))


def test_a_model_may_return_a_mapping_and_half_precision():
    class Mapped(nn.Module):
        def forward(self, images):
            return {"out": images.to(torch.bfloat16)}

    found = MultiScale(Mapped(), (1.0, 0.5))(torch.randn(1, 3, 8, 8))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1, 8, 8))


def test_probabilities_that_round_to_zero_stay_finite():
    class Sure(nn.Module):
        def forward(self, images):
            return torch.cat((images[:, :1] * 0 + 500, images[:, :1] * 0), dim=1)

    assert MultiScale(Sure(), (1.0, 0.5))(torch.randn(1, 3, 8, 8)).isfinite().all()


def test_three_classes_are_no_picture():
    class Three(Half):
        def forward(self, images):
            return super().forward(images)[:, :3]

    model, images = Three(), torch.randn(1, 3, 8, 8)
    found = MultiScale(model, (0.5, 1.0))(images)
    small = F.interpolate(images, size=(4, 4), mode="bilinear", antialias=True)
    said = [model(small).softmax(1), F.interpolate(model(images), size=(2, 2), mode="bilinear").softmax(1)]
    torch.testing.assert_close(found.exp(), sum(said) / 2)


@pytest.mark.parametrize("channels", [1, 5])
def test_pictures_may_have_as_many_channels_as_the_image_model_takes(channels):
    model, images = nn.Conv2d(channels, 3, 1), torch.randn(2, channels, 8, 8)
    torch.testing.assert_close(MultiScale(model, (1.0,))(images), model(images).log_softmax(1))
    assert MultiScale(model, (1.0, 0.5))(images).shape == (2, 3, 8, 8)


def test_gradients_reach_the_model_over_every_scale():
    model = Half()
    MultiScale(model, (1.0, 0.5))(torch.randn(1, 3, 8, 8))[:, 0].sum().backward()
    assert model.mix.weight.grad.abs().sum() > 0


def test_a_tiny_picture_keeps_a_pixel():
    assert MultiScale(Half(), (1.0, 0.1))(torch.randn(1, 3, 2, 3)).shape == (1, 4, 1, 2)


def test_compiles_without_a_graph_break():
    model, images = MultiScale(TinySegmenter(3, width=16), (1.0, 0.5)), torch.randn(1, 3, 16, 24)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


@pytest.mark.parametrize("scales", [(), (1.0, 0.0), (-1.0,), (float("nan"),)])
def test_bad_scales_are_refused(scales):
    with pytest.raises(ValueError, match=r"MultiScale: `scales` must be numbers above 0, at least one; got"):
        MultiScale(Half(), scales)


def test_bad_images_are_refused():
    with pytest.raises(ValueError, match=r"MultiScale: `images` must have shape \(N, C, H, W\); got \(3, 8, 8\)\."):
        MultiScale(Half())(torch.zeros(3, 8, 8))
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4"):  # what the image model says of it
        MultiScale(Half())(torch.zeros(1, 4, 8, 8))
    with pytest.raises(TypeError, match="MultiScale: `images` must be of dtype float"):
        MultiScale(Half())(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    assert "scales=(1.0, 0.5)" in repr(MultiScale(Half()))
