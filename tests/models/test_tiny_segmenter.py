import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dastc.models import FeatureTap, TinySegmenter


@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 3), st.sampled_from([16, 32]))
def test_logits_are_a_quarter_of_the_picture(height, width, batch, channels):
    model = TinySegmenter(5, width=channels)
    with FeatureTap(model, "stem").read() as stem, FeatureTap(model, "neck").read() as neck:
        logits = model(torch.randn(batch, 3, height, width))
    grid = (-(-height // 4), -(-width // 4))
    assert logits.shape == (batch, 5, *grid)
    assert stem.feature.shape == (batch, channels, *grid)
    assert neck.feature.shape == (batch, 2 * channels, *grid)
    assert logits.isfinite().all()
    assert min(stem.feature.min(), neck.feature.min()) == 0  # rectified


def test_the_head_by_hand():
    model, images = TinySegmenter(3), torch.randn(1, 3, 16, 16)
    with FeatureTap(model, "neck").read() as neck:
        logits = model(images)
    by_hand = torch.einsum("kc,nchw->nkhw", model.head.weight[:, :, 0, 0], neck.feature) + model.head.bias.view(3, 1, 1)
    torch.testing.assert_close(logits, by_hand, rtol=1e-4, atol=1e-5)


def test_a_few_hundred_thousand_parameters():
    assert 2e5 < sum(p.numel() for p in TinySegmenter(19).parameters()) < 6e5


@pytest.mark.parametrize("stage", ["stem", "middle", "deep"])
def test_every_stage_takes_part(stage):
    model, images = TinySegmenter(2, width=16), torch.randn(1, 3, 32, 32)
    expected = model(images)
    with FeatureTap(model, stage).replace(torch.zeros_like):
        assert not torch.allclose(model(images), expected)


def test_no_statistics_of_the_batch():
    model, images = TinySegmenter(2, width=16), torch.randn(3, 3, 16, 16)
    assert not [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    assert not list(model.buffers())
    together = model(images)
    for i in range(3):
        torch.testing.assert_close(together[i], model(images[i : i + 1])[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(model.eval()(images), together)


def test_batch_norm_on_request():
    model = TinySegmenter(2, width=16, norm="batch")
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len([m for m in TinySegmenter(2).modules() if isinstance(m, nn.GroupNorm)])
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, 2, 4, 4)
    with pytest.raises(ValueError, match=r"TinySegmenter: `norm` must be one of 'group', 'batch'; got 'layer'\."):
        TinySegmenter(2, norm="layer")


def test_every_parameter_gets_a_gradient():
    model = TinySegmenter(2, width=16)
    out = model(torch.randn(2, 3, 32, 32))
    out.backward(torch.randn(out.shape))
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all()
        assert p.grad.ne(0).any(), name


def test_it_learns_what_colours_say():
    model = TinySegmenter(3, width=16)
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    losses = []
    for _ in range(25):
        labels = torch.randint(0, 3, (4, 4, 4))
        cells = F.one_hot(labels, 3).movedim(-1, 1).float()
        images = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
        loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    logits = TinySegmenter(2, width=16).to(dtype)(torch.randn(1, 3, 16, 16).to(dtype))
    assert logits.dtype == dtype


def test_state_round_trip():
    model, other, images = TinySegmenter(2, width=16), TinySegmenter(2, width=16), torch.randn(1, 3, 16, 16)
    assert not torch.equal(model(images), other(images))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(images), other(images))


def test_extra_repr_shows_the_arguments():
    assert TinySegmenter(4, width=16).extra_repr() == "num_classes=4, width=16, norm='group'"
    assert TinySegmenter(4).extra_repr() == "num_classes=4, width=32, norm='group'"


def test_errors():
    with pytest.raises(ValueError, match=r"^TinySegmenter: `num_classes` must be at least 1; got 0\.$"):
        TinySegmenter(0)
    for width in (0, -16, 8, 24):
        message = f"TinySegmenter: `width` must be a positive multiple of 16; got {width}."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            TinySegmenter(2, width=width)
    message = "TinySegmenter: `images` must have shape (N, 3, H, W); got (1, 4, 8, 8)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TinySegmenter(2)(torch.zeros(1, 4, 8, 8))
