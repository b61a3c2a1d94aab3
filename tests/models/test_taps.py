"""What people already use, with random weights: the taps are there, and DASTC trains it."""

import re
from pathlib import Path

import pytest
import torch
from known_models import CLASSES, MODELS, make
from torch import nn

from dastc import stack_clips
from dastc.adapt import DASTC
from dastc.data import StreetClips
from dastc.losses import CentroidAlignmentLoss
from dastc.models import FeatureTap, VideoSegmenter, logits_of, taps_of
from dastc.models.taps import KNOWN_TAPS

each_model = pytest.mark.parametrize("name", MODELS)
SIZE, STEPS = (32, 64), 8


@pytest.fixture(scope="module")
def clips():
    return {domain: stack_clips([StreetClips(domain, length=1, size=SIZE)[0]]) for domain in ("source", "target")}


@each_model
def test_the_taps_of_a_known_model_hold_maps(name):
    torch.manual_seed(0)
    model, kind, _ = make(name)
    features, shallow = taps_of(model)
    assert [known.kind for known in KNOWN_TAPS if known.taps == (features, shallow)][0].startswith(kind)  # noqa: RUF015
    images = torch.randn(2, 3, *SIZE)
    model.eval()
    with torch.no_grad():
        with FeatureTap(model, features).read() as deep:
            logits = logits_of(model(images))
        assert deep.feature.dim() == 4
        for tensor in (logits, deep.feature):  # maps of the picture: of its shape, at a stride
            assert tensor.shape[-1] * SIZE[0] == tensor.shape[-2] * SIZE[1]
        assert logits.shape[:2] == (2, CLASSES)
        if shallow is None:
            return
        with FeatureTap(model, shallow).read() as early:
            model(images)
        assert early.feature.dim() == 4
        # what stands at the shallow tap decides what is said
        with FeatureTap(model, shallow).replace(torch.zeros_like):
            assert not torch.equal(logits_of(model(images)), logits)


@each_model
def test_dastc_trains_a_known_model_around_which_a_video_segmenter_stands(name, clips):
    torch.manual_seed(0)
    image_model, _, silent = make(name)
    model = VideoSegmenter(image_model, CLASSES)
    with torch.no_grad():
        first = model.eval()(clips["source"].frames, clips["source"].flow)
    assert first.shape[:3] == (1, 2, CLASSES)
    recipe = DASTC(
        model.train(), CLASSES, features=taps_of(model).features, warmup=0, ramp=0,
        objective=CentroidAlignmentLoss("infonce"),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history, learnt, aligned = [], set(), 0.0
    for _ in range(STEPS):
        losses = recipe.step(clips["source"], clips["target"])
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        history.append(float(losses["in_source"].detach()))
        learnt |= {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        aligned += float(losses["align"].detach())
    assert torch.tensor(history).isfinite().all()
    assert aligned > 0  # not at every step: of so few pixels, the confident ones may share no class with the source
    assert min(history[-2:]) < 0.9 * history[0]
    assert {key for key, _ in model.named_parameters() if not any(s in key for s in silent)} <= learnt


def test_the_taps_of_a_video_segmenter_lie_in_its_image_model():
    assert taps_of(VideoSegmenter(make("tiny")[0], CLASSES)) == ("image_model.neck", "image_model.stem")


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match=r"taps_of: `model` must be of a known kind \(dastc Tiny.*; got Sequential\."):
        taps_of(nn.Sequential(nn.Conv2d(3, 3, 1)))


def test_the_documentation_lists_every_known_model():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for kind, (features, shallow), _ in KNOWN_TAPS:
        row = f"| {kind} | `{features}` | {'-' if shallow is None else f'`{shallow}`'} |"
        assert re.search(rf"^{re.escape(row)}", page, re.M), f"docs/models.md must have the row {row}"
