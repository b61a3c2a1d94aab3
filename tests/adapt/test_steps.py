import re

import pytest
import torch
from torch import nn

from dastc import Clip, debug_checks
from dastc.adapt import Teacher
from dastc.adapt.steps import concatenated, segmentation_loss
from dastc.clip import check_pair
from dastc.functional import pseudo_labels, upsampled_cross_entropy
from dastc.labelling.segment import is_video, segment
from dastc.labelling.target_labels import labelled_by
from dastc.models import TinySegmenter, VideoSegmenter


def clip(time=2, flow=True, batch=2, size=(12, 20), classes=4):
    frames = torch.randn(batch, time, 3, *size)
    shift = 2 * torch.randn(batch, time - 1, 2, *size) if flow else None
    return Clip(frames, torch.randint(0, classes, (batch, time, *size)), shift)


@pytest.fixture
def teacher():
    return Teacher(TinySegmenter(4, width=16), mode="frozen")


def test_segment_runs_image_models_on_every_frame(teacher):
    video = clip(time=3)
    logits = segment(teacher, video)
    assert logits.shape == (2, 3, 4, 3, 5)
    torch.testing.assert_close(logits[1, 2:], teacher(video.frames[1, 2:]))


def test_segment_gives_video_models_the_flow():
    model = VideoSegmenter(TinySegmenter(4, width=16), 4)
    nn.init.normal_(model.fusion.mix.weight)
    video = clip()
    assert torch.equal(segment(model, video), model(video.frames, video.flow))
    assert torch.equal(segment(Teacher(model), video), model(video.frames, video.flow))
    assert not torch.equal(segment(model, video), segment(model, video._replace(flow=None)))


def test_labels_of_the_target_are_not_looked_at(teacher):
    video = clip()
    wrong = video._replace(labels=3 - video.labels)
    for a, b in zip(labelled_by(teacher, video), labelled_by(teacher, wrong), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("cross_frame", ["none", "warped", "averaged", "agreeing"])
def test_first_frames_images_and_clips_without_flow_label_themselves(teacher, cross_frame):
    video = clip()
    own = labelled_by(teacher, video)
    given = labelled_by(teacher, video, cross_frame=cross_frame)
    assert torch.equal(given.labels[:, 0], own.labels[:, 0])
    torch.testing.assert_close(given.weights[:, 0], own.weights[:, 0])
    still = video._replace(flow=None)
    assert torch.equal(labelled_by(teacher, still, cross_frame=cross_frame).labels, own.labels)
    image = clip(time=1, flow=False)
    assert labelled_by(teacher, image, cross_frame=cross_frame).labels.shape == (2, 1, 12, 20)


def test_cross_frame_labels_come_from_the_frame_before(teacher):
    video = clip(time=3)
    logits = segment(teacher, video)
    for t in (1, 2):
        before, flow = logits[:, t - 1], video.flow[:, t - 1]
        warped = labelled_by(teacher, video, cross_frame="warped")
        assert torch.equal(warped.labels[:, t], pseudo_labels(before, (12, 20), flow=flow).labels)
        averaged = labelled_by(teacher, video, cross_frame="averaged")
        expected = pseudo_labels(logits[:, t], (12, 20), flow=flow, previous=before)
        assert torch.equal(averaged.labels[:, t], expected.labels)
        torch.testing.assert_close(averaged.weights[:, t], expected.confidence)


def test_labels_that_disagree_between_frames_are_without_confidence(teacher):
    video = clip()
    averaged, agreeing = (labelled_by(teacher, video, cross_frame=rule) for rule in ("averaged", "agreeing"))
    own, warped = (labelled_by(teacher, video, cross_frame=rule) for rule in ("none", "warped"))
    differ = (own.labels != warped.labels)[:, 1] & (warped.weights[:, 1] > 0)
    assert differ.any()
    assert (warped.weights[:, 1] == 0).any()
    assert torch.equal(agreeing.labels, averaged.labels)
    assert torch.equal(agreeing.weights[:, 1], averaged.weights[:, 1].where(~differ, 0))
    assert torch.equal(agreeing.weights[:, 0], averaged.weights[:, 0])


def test_logits_can_be_adjusted_before_they_become_labels(teacher):
    shift = torch.tensor([0.0, 0.0, 50.0, 0.0]).view(-1, 1, 1)
    for rule in ("none", "warped", "averaged", "agreeing"):
        labelled = labelled_by(teacher, clip(), cross_frame=rule, adjust=lambda logits: logits + shift)
        assert labelled.labels[labelled.weights > 0].eq(2).all()


def test_unknown_cross_frame_is_named(teacher):
    with pytest.raises(ValueError, match=r"labelled_by: `cross_frame` must be one of .*; got 'mean'"):
        labelled_by(teacher, clip(), cross_frame="mean")


def test_wrappers_do_not_hide_that_a_model_takes_clips():
    image, video = TinySegmenter(4, width=16), VideoSegmenter(TinySegmenter(4, width=16), 4)
    for model in (video, torch.compile(video, backend="eager"), nn.DataParallel(video), Teacher(video)):
        assert is_video(model)
    for model in (image, torch.compile(image, backend="eager"), Teacher(image), nn.Sequential(video)):
        assert not is_video(model)


@pytest.mark.parametrize("video", [False, True])
def test_logits_of_other_classes_are_named(video):
    model = TinySegmenter(4, width=16)
    model = VideoSegmenter(model, 4) if video else model
    given = clip()
    assert torch.equal(segment(model, given, 4), segment(model, given))
    message = (
        "segment: `model` must return logits of 3 classes, as `num_classes` says; got 4. Models of transformers take "
        "num_labels=3."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        segment(model, clip(), 3)


def test_a_pair_is_of_one_size_and_the_target_without_labels():
    source, target = clip(), clip()
    checked = check_pair("here", source, target._replace(weights=torch.ones(2, 2, 12, 20)))
    assert checked[0] is source
    assert (checked[1].labels, checked[1].weights) == (None, None)
    assert checked[1].frames is target.frames
    for bad in (clip(time=1), clip(batch=3), clip(size=(12, 24)), target._replace(frames=torch.zeros(2, 2, 1, 12, 20))):
        b, t, c, h, w = bad.frames.shape
        message = f"here: `source.frames` must have shape (B={b}, T={t}, C={c}, H={h}, W={w}); got (2, 2, 3, 12, 20)."
        with pytest.raises(ValueError, match=f"^{re.escape(message)} As target.frames.$"):
            check_pair("here", source, bad._replace(labels=None, flow=None))


def test_segmentation_loss_weighs_every_frame():
    video = clip()._replace(weights=torch.rand(2, 2, 12, 20))
    logits = torch.randn(2, 2, 4, 3, 5)
    expected = upsampled_cross_entropy(
        logits.flatten(0, 1), video.labels.flatten(0, 1), weights=video.weights.flatten(0, 1)
    )
    assert torch.equal(segmentation_loss(logits, video), expected)
    with pytest.raises(ValueError, match=r"`clip\.labels` must be given; got None"):
        segmentation_loss(logits, video._replace(labels=None))


def test_concatenation_fills_weights_and_drops_lonely_flow():
    plain, weighted = clip(), clip(flow=False)._replace(weights=torch.rand(2, 2, 12, 20))
    both = concatenated([plain, weighted])
    assert both.flow is None
    assert torch.equal(both.weights, torch.cat([torch.ones(2, 2, 12, 20), weighted.weights]))
    assert torch.equal(both.frames[2:], weighted.frames)
    assert concatenated([plain, plain]).weights is None
    assert torch.equal(concatenated([plain, plain]).flow[2:], plain.flow)


def test_the_segmentation_loss_knows_which_label_is_to_be_ignored(teacher):
    video = clip()
    video.labels[:, :, 0] = 77
    with debug_checks():
        found = segmentation_loss(segment(teacher, video), video, ignore_index=77)
        with pytest.raises(ValueError, match="`labels` must lie in"):
            segmentation_loss(segment(teacher, video), video)
    torch.testing.assert_close(found, segmentation_loss(segment(teacher, video), video))
