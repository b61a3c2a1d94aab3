import pytest
import torch
from torch import nn

from dastc import Clip
from dastc.adapt import Teacher, TeacherLabels


class Says(nn.Module):
    """Say the same logits of every frame, whatever it shows."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images):
        return self.logits.expand(len(images), -1, -1, -1)


def label(logits, *, batch=64, frames=1, flow=False, **options):
    part = TeacherLabels(Teacher(Says(logits)), choice="drawn", **options)
    height, width = logits.shape[-2:]
    clip = Clip(torch.zeros(batch, frames, 3, height, width))
    return part(clip._replace(flow=torch.zeros(batch, frames - 1, 2, height, width)) if flow else clip)


def test_every_class_keeps_the_share_that_the_teacher_gives_it():
    chance = torch.tensor([0.6, 0.25, 0.1, 0.05])
    logits = chance.log().view(1, 4, 1, 1).expand(1, 4, 12, 12).contiguous()
    labels = label(logits, batch=128).clip.labels
    shares = torch.bincount(labels.flatten(), minlength=4) / labels.numel()
    # 18432 draws: four deviations of a share of 0.25 are 0.013
    assert (shares - chance).abs().max() < 0.013
    likeliest = TeacherLabels(Teacher(Says(logits)))(Clip(torch.zeros(2, 1, 3, 12, 12))).clip.labels
    assert not likeliest.any()


def test_what_the_teacher_is_sure_of_is_drawn():
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 1, :, :4] = logits[:, 2, :, 4:] = 40
    labels = label(logits).clip.labels
    assert (labels[..., :3] == 1).all()
    assert (labels[..., 5:] == 2).all()


def test_confidence_and_weights_are_those_of_the_likeliest():
    logits = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    drawn = label(logits, threshold=0.5)
    other = TeacherLabels(Teacher(Says(logits)), threshold=0.5)(Clip(torch.zeros(64, 1, 3, 12, 12)))
    assert torch.equal(drawn.confidence, other.confidence)
    assert torch.equal(drawn.clip.weights, other.clip.weights)
    assert not torch.equal(drawn.clip.labels, other.clip.labels)


@pytest.mark.parametrize("cross_frame", ["none", "warped", "averaged", "agreeing"])
def test_all_frames_of_a_clip_are_drawn_alike(cross_frame):
    labels = label(torch.zeros(1, 5, 12, 16), batch=3, frames=4, flow=True, cross_frame=cross_frame).clip.labels
    assert (labels == labels[:, :1]).all()
    assert len({tuple(clip.flatten().tolist()) for clip in labels}) == 3  # clips are not
    assert len(labels.unique()) == 5


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (5, 7), (24, 48)])
def test_labels_are_drawn_in_patches_of_any_picture(size):
    labels = label(torch.zeros(1, 9, *size), batch=4).clip.labels
    assert labels.shape == (4, 1, *size)
    if size == (24, 48):  # 12 rows of cells, 24 columns
        cells = labels.view(4, 12, 2, 24, 2)
        inner = cells[:, :, 0, :, 0]
        assert ((cells == inner[:, :, None, :, None]).float().mean()) > 0.99


def test_a_part_that_is_loaded_draws_what_the_other_would_have_drawn():
    clip = Clip(torch.zeros(2, 1, 3, 12, 12))
    part = TeacherLabels(Teacher(Says(torch.zeros(1, 5, 12, 12))), choice="drawn", seed=1)
    part(clip)
    other = TeacherLabels(Teacher(Says(torch.zeros(1, 5, 12, 12))), choice="drawn", seed=2)
    other.load_state_dict(part.state_dict())
    first = part(clip).clip.labels
    assert torch.equal(other(clip).clip.labels, first)
    assert not torch.equal(part(clip).clip.labels, first)
    assert not [name for name in TeacherLabels(part.teacher).state_dict() if name.startswith("random")]


def test_logits_that_are_not_numbers_and_empty_batches_are_labelled():
    assert label(torch.full((1, 3, 4, 4), float("nan"))).clip.labels.shape == (64, 1, 4, 4)
    assert label(torch.zeros(1, 3, 4, 4), batch=0).clip.labels.shape == (0, 1, 4, 4)


def test_a_choice_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="`choice` must be one of 'likeliest', 'drawn'; got 'soft'"):
        TeacherLabels(Teacher(Says(torch.zeros(1, 2, 1, 1))), choice="soft")
