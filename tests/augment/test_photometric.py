import re

import pytest
import torch

from dastc.augment import PhotometricJitter

FRAMES = torch.rand(3, 2, 3, 9, 12)


def only(**one):
    off = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "balance": 0.0, "blur": 0.0}
    return PhotometricJitter(**{**off, **one}, seed=3)


def test_with_everything_off_nothing_changes():
    torch.testing.assert_close(only()(FRAMES), FRAMES)


def test_outside_training_nothing_changes():
    jitter = PhotometricJitter().eval()
    assert jitter(FRAMES) is FRAMES


def test_brightness_shifts_and_contrast_scales():
    shift = only(brightness=0.5)(FRAMES) - FRAMES
    assert (shift.flatten(1).amax(1) - shift.flatten(1).amin(1) < 1e-5).all()
    assert 0 < shift.abs().max() <= 0.5
    scale = only(contrast=0.4)(FRAMES) / FRAMES
    assert (scale.flatten(1).amax(1) - scale.flatten(1).amin(1) < 1e-4).all()
    assert ((scale - 1).abs() <= 0.4 + 1e-4).all()
    assert (scale - 1).abs().max() > 0.01


def test_hue_and_saturation_leave_grey_alone():
    grey = torch.rand(2, 1, 1, 5, 5).expand(-1, -1, 3, -1, -1)
    torch.testing.assert_close(only(hue=0.5, saturation=1.0)(grey), grey)
    assert not torch.allclose(only(hue=0.5)(FRAMES), FRAMES, atol=0.02)
    assert not torch.allclose(only(saturation=1.0)(FRAMES), FRAMES, atol=0.02)


def test_hue_is_a_rotation():
    turned = only(hue=0.5)(FRAMES)
    torch.testing.assert_close(turned.sum(dim=2), FRAMES.sum(dim=2))
    torch.testing.assert_close(turned.square().sum(dim=2), FRAMES.square().sum(dim=2))


def test_balance_scales_each_channel():
    gain = only(balance=0.5)(FRAMES) / FRAMES
    assert (gain.amax((1, 3, 4)) - gain.amin((1, 3, 4)) < 1e-4).all()  # one gain for each clip and channel
    assert gain[0, 0, :, 0, 0].std() > 0.01


def test_blur_keeps_constants_and_calms_edges():
    constant = torch.full((2, 1, 3, 8, 8), 0.7)
    torch.testing.assert_close(only(blur=1.0)(constant), constant)
    blurred = only(blur=1.0)(FRAMES)
    assert (blurred.diff(dim=-1).abs().flatten(1).mean(1) < FRAMES.diff(dim=-1).abs().flatten(1).mean(1)).any()
    tiny = torch.rand(1, 1, 3, 2, 2)
    assert only(blur=1.0)(tiny) is not None
    torch.testing.assert_close(only(blur=1.0)(tiny), tiny)


def test_every_frame_and_channel_of_a_clip_is_blurred_alike():
    same = torch.rand(3, 1, 1, 9, 12).expand(-1, 2, 3, -1, -1)
    blurred = only(blur=1.0)(same)
    torch.testing.assert_close(blurred, blurred[:, :1, :1].expand_as(blurred))
    lost = (blurred - same).square().flatten(1).sum(1).sqrt() / same.flatten(1).norm(dim=1)
    assert lost.unique().numel() == 3


def test_all_frames_of_a_clip_change_alike_and_clips_differ():
    same = FRAMES[:, :1].expand(-1, 2, -1, -1, -1)
    changed = PhotometricJitter(seed=1)(same)
    torch.testing.assert_close(changed[:, 0], changed[:, 1])
    twice = PhotometricJitter(seed=1)(FRAMES[:1].expand(2, -1, -1, -1, -1))
    assert not torch.allclose(twice[0], twice[1], atol=1e-3)


def test_the_state_goes_on_where_it_was():
    one, other = PhotometricJitter(seed=1), PhotometricJitter(seed=2)
    one(FRAMES)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(FRAMES), other(FRAMES))


def test_dtype_is_kept_and_an_empty_batch_passes():
    assert PhotometricJitter()(FRAMES.bfloat16()).dtype == torch.bfloat16
    assert PhotometricJitter()(FRAMES[:0]).shape == (0, 2, 3, 9, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"brightness": -1.0}, r"PhotometricJitter: `brightness` must be at least 0; got -1\.0\."),
        ({"blur": 2.0}, r"PhotometricJitter: `blur` must lie in \[0, 1\]; got 2\.0\."),
        ({"hue": 0.6}, r"PhotometricJitter: `hue` must lie in \[0, 0\.5\]; got 0\.6\."),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        PhotometricJitter(**arguments)


def test_bad_frames_are_named():
    with pytest.raises(ValueError, match=r"`frames` must have shape \(B, T, 3, H, W\); got \(3, 9, 12\)"):
        PhotometricJitter()(FRAMES[0, 0])
    hint = "Colours have three channels; give the recipe another `augment`, such as torch.nn.Identity()."
    for jitter in (PhotometricJitter(), PhotometricJitter().eval()):
        with pytest.raises(ValueError, match=rf"got \(3, 2, 1, 9, 12\)\. {re.escape(hint)}$"):
            jitter(FRAMES[:, :, :1])
    with pytest.raises(TypeError, match=r"`frames` must be of dtype float; got torch\.uint8"):
        PhotometricJitter()(FRAMES.byte())
