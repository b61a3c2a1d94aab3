import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from dastc import stack_clips
from dastc.clip import check_clip, map_clip
from dastc.data import StreetClips
from dastc.data._street.domains import Domain
from dastc.data._street.layout import build_street
from dastc.data._street.planes import Patch, film, flow_between, patch_on_top, project, seen_before, stack_patches
from dastc.data.spaces import STREET


def _warp(picture, flow, mode):
    """Sample ``(C, H, W)`` where ``(2, H, W)`` points."""
    height, width = flow.shape[-2:]
    own = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")[::-1])
    at = (flow + own).movedim(0, -1) * 2 / torch.tensor([width - 1, height - 1]) - 1
    return F.grid_sample(picture[None], at[None], mode=mode, align_corners=True)[0]


def _label_agreement(domain, indices, sign=1.0, **options):
    """Share of visible pixels whose warped label is right, and share of pixels visible."""
    clips, right, visible, pixels = StreetClips(domain, **options), 0, 0, 0
    for i in indices:
        clip, seen = clips[i], clips.visible(i)
        for t in range(clips.frames - 1):
            warped = _warp(clip.labels[t][None].float(), sign * clip.flow[t], "nearest")[0].long()
            right += int((warped == clip.labels[t + 1])[seen[t]].sum())
        visible, pixels = visible + int(seen.sum()), pixels + seen.numel()
    return right / visible, visible / pixels


def _equal(first, second):
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("domain", ["source", "target"])
def test_a_clip_has_the_promised_fields(domain):
    clip = StreetClips(domain)[0]
    assert clip.frames.shape == (2, 3, 96, 160)
    assert clip.frames.dtype == clip.flow.dtype == torch.float32
    assert clip.labels.dtype == torch.int64
    assert clip.weights is None
    assert all(x.is_contiguous() for x in clip[:3])
    assert clip.frames.isfinite().all()
    assert clip.flow.isfinite().all()
    assert check_clip("test", "clip", stack_clips([clip, clip])) == {"B": 2, "T": 2, "H": 96, "W": 160}
    assert StreetClips(domain).label_space is STREET


@given(
    height=st.integers(16, 70), width=st.integers(16, 90), frames=st.integers(1, 4), index=st.integers(0, 50),
    shift=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)  # fmt: skip
@settings(max_examples=15)
def test_any_size_and_number_of_frames(height, width, frames, index, shift):
    clips = StreetClips("target", size=(height, width), frames=frames, length=51, shift=shift)
    clip, seen = clips[index], clips.visible(index)
    assert clip.frames.shape == (frames, 3, height, width)
    assert clip.labels.shape == (frames, height, width)
    assert (clip.flow is None) if frames == 1 else (clip.flow.shape == (frames - 1, 2, height, width))
    assert seen.shape == (frames - 1, height, width)
    assert seen.dtype == torch.bool
    assert 0 <= clip.labels.min() <= clip.labels.max() < len(STREET.names)
    assert clip.frames.isfinite().all()


@pytest.mark.parametrize("domain", ["source", "target"])
def test_labels_warped_by_the_flow_agree_where_visible(domain):
    agreement, share = _label_agreement(domain, range(15))
    assert agreement >= 0.999
    assert share > 0.93


def test_labels_warped_by_the_flow_agree_at_odd_sizes_and_over_three_frames():
    agreement, share = _label_agreement("target", range(10), size=(49, 83), frames=3)
    assert agreement >= 0.999
    assert share > 0.85


def test_a_negated_flow_is_noticed():
    agreement, _ = _label_agreement("source", range(15), sign=-1.0)
    assert agreement < 0.85


def test_the_pictures_move_with_the_flow():
    clips, errors, wrong, still = StreetClips("source"), [], [], []
    for i in range(12):
        clip, seen = clips[i], clips.visible(i)[0]
        first, second = clip.frames
        for flow, found in ((clip.flow[0], errors), (-clip.flow[0], wrong), (0 * clip.flow[0], still)):
            found.append((_warp(first, flow, "bilinear") - second).abs().mean(0)[seen].mean().item())
    # aliased edges and the blur of the lens remain
    assert np.mean(errors) < 0.12
    assert np.mean(errors) < 0.5 * np.mean(still)
    assert np.mean(errors) < 0.4 * np.mean(wrong)


def test_flow_of_a_known_street_and_drive():
    # a wall 10 m ahead fills the picture; the camera goes 2 m towards it and 1 m to the right
    grey = np.full(3, 0.5)
    street = stack_patches([Patch(1, (-50, -50, 10), (100, 0, 0), (0, 100, 0), grey, grey)])
    lens = np.tile([20.0, 7.0, 5.0], (2, 1))
    position = np.array([[0.0, 1.5, 0.0], [1.0, 1.5, 2.0]])
    to_picture = project(street, position, np.zeros(2), lens)
    flow = flow_between(film(street, to_picture, (11, 15)), to_picture)[0]
    # a point at x in the later frame lies at (x - 7) * 8 / 20 + 1 metres
    expected = 20 * ((np.arange(15) - 7) * 8 / 20 + 1) / 10 + 7 - np.arange(15)
    np.testing.assert_allclose(flow[0], np.tile(expected, (11, 1)), atol=1e-4)
    np.testing.assert_allclose(flow[1, :, 0], (np.arange(11) - 5) * 0.8 - (np.arange(11) - 5), atol=1e-4)


def test_flow_and_visibility_around_a_moving_thing():
    # a board 5 m before the wall jumps from columns 4 .. 8 to 8 .. 12 while the camera stands still
    grey = np.full(3, 0.5)
    board = Patch(8, (-0.85, -50, 5), (1.2, 0, 0), (0, 100, 0), grey, grey, velocity=(1.0, 0, 0))
    street = stack_patches([Patch(1, (-50, -50, 10), (100, 0, 0), (0, 100, 0), grey, grey), board])
    to_picture = project(street, np.zeros((2, 3)), np.zeros(2), np.tile([20.0, 7.0, 5.0], (2, 1)))
    view = film(street, to_picture, (11, 15))
    assert [np.flatnonzero(row).tolist() for row in view.patch[:, 3]] == [[4, 5, 6, 7, 8], [8, 9, 10, 11, 12]]
    flow = flow_between(view, to_picture)[0]
    np.testing.assert_allclose(flow[0], np.tile(np.where(view.patch[1, 3], -4.0, 0.0), (11, 1)), atol=1e-4)
    np.testing.assert_allclose(flow[1], 0, atol=1e-4)
    # what the board has uncovered was not seen before
    assert np.flatnonzero(~seen_before(street, view, to_picture)[0, 3]).tolist() == [4, 5, 6, 7]


def test_the_patch_on_top_at_pixel_centres_is_the_one_filmed():
    street = build_street(np.random.default_rng(3), Domain(1.0), 9.0, 60.0)
    lens, position = np.array([[60.0, 47.5, 28.0]]), np.array([[1.8, 1.6, 0.0]])
    to_picture = project(street, position, np.array([0.05]), lens)
    x, y = np.meshgrid(np.arange(96, dtype=np.float32), np.arange(64, dtype=np.float32))
    found = patch_on_top(street, to_picture[0], x, y)
    # the restriction to boxes loses nothing
    np.testing.assert_array_equal(found, film(street, to_picture, (64, 96)).patch[0])
    assert len(np.unique(found)) > 10


def test_a_clip_depends_on_its_index_alone():
    first = StreetClips("target", size=(32, 48))
    forwards = [first[i] for i in (0, 1, 2)]
    again = StreetClips("target", size=(32, 48), length=77)
    assert all(_equal(again[i], forwards[i]) for i in (2, 0, 1))
    assert _equal(first[-500], forwards[0])


def test_seeds_splits_domains_and_indices_give_different_streets():
    options = [{}, {"split": "val"}, {"split": "test"}, {"seed": 1}, {"shift": 0.0, "domain": "target"}]
    clips = [StreetClips(**({"domain": "source"} | o), size=(32, 48))[0] for o in options]
    clips.append(StreetClips("source", size=(32, 48))[1])
    for i, first in enumerate(clips):
        for second in clips[i + 1 :]:
            assert (first.labels != second.labels).float().mean() > 0.02
            assert not torch.equal(first.flow, second.flow)


def test_more_frames_continue_the_same_drive():
    short, long = (StreetClips("target", size=(32, 48), frames=n)[4] for n in (2, 4))
    assert (short.labels == long.labels[:2]).float().mean() > 0.97


@pytest.mark.parametrize("domain", ["source", "target"])
def test_every_class_occurs(domain):
    clips = StreetClips(domain, split="test")
    counts = torch.stack([torch.bincount(clips[i].labels.flatten(), minlength=9) for i in range(30)])
    assert (counts.sum(0) / counts.sum() > 0.005).all()
    assert ((counts > 0).float().mean(0) > 0.5).all()


def _statistics(domain, shift):
    frames = torch.stack([clip.frames for clip in StreetClips(domain, shift=shift, length=60, size=(36, 60))])
    rough = (frames[..., 1:] - frames[..., :-1]).abs().mean()
    mean, spread = frames.mean((0, 1, 3, 4)), frames.std((0, 1, 3, 4))
    return torch.cat([mean, spread, 4 * rough[None]])


def test_without_shift_the_target_looks_like_the_source_and_with_it_it_does_not():
    source, near, far = _statistics("source", 1.0), _statistics("target", 0.0), _statistics("target", 1.0)
    assert (source - near).abs().max() < 0.1
    assert (source - far).abs().max() > 0.3


def test_the_shift_does_not_touch_the_source():
    first, second = (StreetClips("source", size=(32, 48), shift=shift)[0] for shift in (0.0, 1.0))
    assert _equal(first, second)


def test_workers_and_pickling_give_the_same_clips():
    clips = StreetClips("target", size=(24, 40), length=6, frames=1)
    clips = pickle.loads(pickle.dumps(clips))
    batches = list(DataLoader(clips, batch_size=3, num_workers=2, collate_fn=stack_clips))
    assert len(batches) == 2
    for i in range(6):
        assert _equal(map_clip(batches[i // 3], lambda x, i=i: x[i % 3]), clips[i])


def test_indices_are_those_of_a_list():
    clips = StreetClips("source", size=(16, 16), length=3, frames=1)
    assert len(clips) == len(list(clips)) == 3
    assert _equal(clips[-1], clips[2])
    for bad in (3, -4):
        with pytest.raises(IndexError, match=rf"StreetClips: `index` must lie in \[-3, 3\); got {bad}\."):
            clips[bad]
        with pytest.raises(IndexError, match="`index`"):
            clips.visible(bad)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"domain": "game"}, r"`domain` must be one of 'source', 'target'; got 'game'\."),
        ({"split": "all"}, r"`split` must be one of 'train', 'val', 'test'; got 'all'\."),
        ({"size": (96,)}, r"`size` must be \(height, width\), each at least 16; got \(96,\)\."),
        ({"size": (96, 15)}, r"`size` must be \(height, width\), each at least 16; got \(96, 15\)\."),
        ({"frames": 0}, r"`frames` must be at least 1; got 0\."),
        ({"length": -1}, r"`length` must be at least 0; got -1\."),
        ({"seed": -1}, r"`seed` must be at least 0; got -1\."),
        ({"shift": -0.5}, r"`shift` must lie in \[0, 3\]; got -0\.5\."),
        ({"shift": float("nan")}, r"`shift` must lie in \[0, 3\]; got nan\."),
    ],
)
def test_bad_arguments_are_named(bad, message):
    with pytest.raises(ValueError, match="StreetClips: " + message):
        StreetClips(**({"domain": "target"} | bad))
