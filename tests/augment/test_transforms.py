import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from dastc import Clip, stack_clips
from dastc.augment import OnFrames, PhotometricJitter, RandomCrop, RandomFlip, RandomScale, Resize
from dastc.clip import map_clip
from dastc.data.frames import renormalise
from dastc.functional import flow_warp, resize_flow, resize_labels
from dastc.functional.labels import warp_labels

SEEDS = st.integers(0, 2**31 - 1)
SIDE = st.integers(1, 12)
SIZES = st.tuples(st.integers(1, 3), st.integers(1, 3), SIDE, SIDE)  # B, T, H, W


def _clip(seed, size, whole=False):
    generator = torch.Generator().manual_seed(seed)
    b, t, h, w = size
    labels = torch.randint(-1, 5, (b, t, h, w), generator=generator)
    flow = 2 * torch.randn((b, t - 1, 2, h, w), generator=generator)
    return Clip(
        torch.randn((b, t, 3, h, w), generator=generator),
        labels.where(labels >= 0, 255),
        flow.round() if whole else flow,
        # a function of the label, so that one taken from another pixel shows
        labels.where(labels >= 0, 255) / 255.0,
    )


def _same(one, other):
    return all((x is None and y is None) or torch.equal(x, y) for x, y in zip(one, other, strict=True))


def _consistent(clip):
    return torch.equal(clip.weights, clip.labels / 255.0)


# Resize


@given(SEEDS, SIZES, SIDE, SIDE)
def test_resizing_follows_the_rule_of_each_field(seed, size, height, width):
    clip = _clip(seed, size)
    got = Resize((height, width))(clip)
    assert got.frames.shape == (*size[:2], 3, height, width)
    assert torch.equal(got.labels, resize_labels(clip.labels, (height, width)))
    assert _consistent(got)
    for t in range(size[1] - 1):
        torch.testing.assert_close(got.flow[:, t], resize_flow(clip.flow[:, t], (height, width)))


@given(SIZES, SIDE, SIDE)
def test_constant_flow_is_rescaled_on_each_axis_by_its_own_ratio(size, height, width):
    b, t, h, w = size
    clip = Clip(torch.zeros(b, t, 3, h, w), flow=torch.tensor([3.0, -5.0]).view(2, 1, 1).expand(b, t - 1, 2, h, w))
    got = Resize((height, width))(clip)
    wanted = torch.tensor([3.0 * width / w, -5.0 * height / h]).view(2, 1, 1).expand(b, t - 1, 2, height, width)
    torch.testing.assert_close(got.flow, wanted)
    assert got.labels is None
    assert got.weights is None


def test_frames_are_resized_as_pictures_are():
    frames = torch.randn(2, 3, 9, 13)
    for size in ((4, 5), (17, 20)):
        wanted = F.interpolate(frames, size=size, mode="bilinear", align_corners=False, antialias=True)
        torch.testing.assert_close(Resize(size)(Clip(frames)).frames, wanted)
    assert Resize((4, 5))(Clip(frames.half())).frames.dtype == torch.float16
    # a checkerboard shrinks to grey: nothing is skipped
    board = (torch.arange(16)[:, None] + torch.arange(16)).remainder(2).float().expand(1, 3, 16, 16)
    torch.testing.assert_close(Resize((4, 4))(Clip(board)).frames[..., 1:3, 1:3], torch.full((1, 3, 2, 2), 0.5))


def test_the_same_size_changes_nothing():
    clip = _clip(0, (2, 2, 5, 6))
    assert _same(Resize((5, 6))(clip), clip)


# RandomFlip


@given(SEEDS, SIZES)
def test_flipping_mirrors_every_field_and_turns_dx(seed, size):
    clip = _clip(seed, size)
    got = RandomFlip(1.0)(clip)
    assert torch.equal(got.frames, clip.frames.flip(-1))
    assert torch.equal(got.labels, clip.labels.flip(-1))
    assert torch.equal(got.weights, clip.weights.flip(-1))
    assert torch.equal(got.flow[:, :, 0], -clip.flow[:, :, 0].flip(-1))
    assert torch.equal(got.flow[:, :, 1], clip.flow[:, :, 1].flip(-1))
    assert _same(RandomFlip(1.0)(got), clip)
    assert _same(RandomFlip(0.0)(clip), clip)


@given(SEEDS, st.tuples(st.integers(1, 3), st.just(2), SIDE, SIDE))
def test_warping_and_flipping_commute_exactly(seed, size):
    clip = _clip(seed, size, whole=True)
    flipped = RandomFlip(1.0)(clip)
    warped = warp_labels(clip.labels[:, 0], clip.flow[:, 0])
    assert torch.equal(warp_labels(flipped.labels[:, 0], flipped.flow[:, 0]), warped.flip(-1))


@given(SEEDS, st.tuples(st.integers(1, 3), st.just(2), SIDE, SIDE))
def test_warping_frames_and_flipping_commute(seed, size):
    clip = _clip(seed, size, whole=True)
    flipped = RandomFlip(1.0)(clip)
    (warped, valid), (mirrored, mirrored_valid) = (flow_warp(c.frames[:, 0], c.flow[:, 0]) for c in (clip, flipped))
    torch.testing.assert_close(mirrored, warped.flip(-1), atol=1e-4, rtol=1e-4)
    assert torch.equal(mirrored_valid, valid.flip(-1))


def test_each_clip_of_a_batch_is_flipped_or_not_with_all_its_fields():
    clip = _clip(1, (64, 2, 3, 5))
    got = RandomFlip(0.25, seed=3)(clip)
    flips = [not torch.equal(a, b) for a, b in zip(got.frames, clip.frames, strict=True)]
    assert 4 < sum(flips) < 28
    for b, flip in enumerate(flips):
        one = map_clip(clip, lambda x, b=b: x[b])
        assert _same(map_clip(got, lambda x, b=b: x[b]), RandomFlip(1.0)(one) if flip else one)


# RandomCrop


@given(SEEDS, SIZES, st.data())
def test_a_crop_is_a_window_of_the_clip_the_same_in_all_fields(seed, size, data):
    height, width = (data.draw(st.integers(1, side)) for side in size[2:])
    clip = _clip(seed, size)
    # pixels know where they were
    places = torch.arange(size[2] * size[3]).view(size[2], size[3]).float()
    clip = clip._replace(frames=places.expand_as(clip.frames).contiguous())
    got = RandomCrop((height, width), seed=seed)(clip)
    for b in range(size[0]):
        top, left = divmod(int(got.frames[b, 0, 0, 0, 0]), size[3])
        window = map_clip(clip, lambda x, b=b, y=top, x0=left: x[b, ..., y : y + height, x0 : x0 + width])
        assert _same(map_clip(got, lambda x, b=b: x[b]), window)


def test_every_window_is_drawn_and_each_clip_has_its_own():
    places = torch.arange(6.0).view(2, 3).expand(300, 1, 3, 2, 3)
    seen = RandomCrop((1, 2))(Clip(places)).frames[:, 0, 0, 0, 0]
    assert seen.unique().tolist() == [0, 1, 3, 4]
    assert seen.long().bincount().max() < 110


def test_windows_of_one_class_are_drawn_again():
    labels = torch.zeros(1, 2, 1, 40, dtype=torch.long)
    labels[:, 1, :, 20:] = 1  # the current frame: two classes meet at column 20
    labels[:, 0] = 2  # the frame before does not count
    clip = Clip(torch.zeros(1, 2, 3, 1, 40), labels)

    def largest(share):
        crop = RandomCrop((1, 16), largest_share=share, seed=5)
        shares = [crop(clip).labels[0, 1].float().mean() for _ in range(60)]
        return torch.stack([torch.maximum(x, 1 - x) for x in shares])

    assert (largest(1.0) == 1).float().mean() > 0.2
    assert (largest(0.75) > 0.75).float().mean() < 0.02
    assert (largest(0.05) > 0.05).all()  # nothing is varied enough: some window all the same


def test_ignored_pixels_have_no_share():
    labels = torch.full((1, 1, 1, 12), 255)
    labels[..., 4:6], labels[..., 6:8] = 0, 1
    crop = RandomCrop((1, 8), largest_share=0.5, seed=2)
    got = torch.cat([crop(Clip(torch.zeros(1, 1, 3, 1, 12), labels)).labels for _ in range(30)])
    assert ((got == 0).sum((1, 2, 3)) == (got == 1).sum((1, 2, 3))).all()


# RandomScale


@given(SEEDS, st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(4, 12), st.integers(4, 12)))
def test_scaling_is_resizing_by_a_factor_in_range(seed, size):
    clip = _clip(seed, size)
    got = RandomScale(0.5, 1.5, seed=seed)(clip)
    assert _same(got, Resize(tuple(got.frames.shape[-2:]))(clip))
    for side, own in zip(got.frames.shape[-2:], size[2:], strict=True):
        assert round(0.5 * own) <= side <= round(1.5 * own)
    assert _consistent(got)


def test_all_factors_are_drawn_and_both_axes_get_one():
    scale, clip = RandomScale(0.5, 2.0), Clip(torch.zeros(1, 3, 40, 80))
    sides = torch.tensor([scale(clip).frames.shape[-2:] for _ in range(100)])
    assert ((sides[:, 1] - 2 * sides[:, 0]).abs() <= 1).all()
    assert sides[:, 0].min() < 25
    assert sides[:, 0].max() > 75


@given(SEEDS, st.integers(1, 30), st.integers(1, 30))
def test_a_scaled_clip_is_large_enough_for_the_crop(seed, height, width):
    scale = RandomScale(0.1, 1.0, smallest=(height, width), seed=seed)
    got = nn.Sequential(scale, RandomCrop((height, width)))(_clip(seed, (1, 2, 8, 9)))
    assert got.frames.shape[-2:] == (height, width)


# all of them


def _chain(seed=0):
    return nn.Sequential(
        RandomScale(0.8, 1.5, smallest=(6, 6), seed=seed),
        RandomCrop((6, 6), largest_share=0.9, seed=seed),
        RandomFlip(seed=seed),
        OnFrames(PhotometricJitter(seed=seed)),
        OnFrames(lambda frames: renormalise(frames, "caffe")),
    )


@settings(max_examples=6)
@given(SEEDS)
def test_a_chain_repeats_with_its_seed_and_its_state(seed):
    clip, one, other = _clip(seed, (2, 2, 8, 9)), _chain(seed), _chain(seed)
    first = one(clip)
    assert _same(first, other(clip))
    assert first.labels.shape == (2, 2, 6, 6)
    second = one(clip)
    third = _chain(seed + 1)
    third(clip)
    third.load_state_dict(other.state_dict())
    assert _same(third(clip), second)
    assert not torch.equal(first.frames, second.frames)


def test_transforms_of_one_seed_draw_different_numbers():
    draws = [
        torch.rand(5, generator=transform.random.generator)
        for transform in (RandomFlip(), RandomCrop((1, 1)), RandomScale(), RandomFlip(seed=1))
    ]
    for i, one in enumerate(draws):
        assert not any(torch.equal(one, other) for other in draws[:i])


@pytest.mark.parametrize(
    "transform",
    [Resize((3, 4)), RandomScale(), RandomFlip(1.0), RandomCrop((3, 4)), OnFrames(torch.neg)],
    ids=lambda x: type(x).__name__,
)
def test_a_single_clip_is_a_batch_of_one(transform):
    clip = _clip(4, (1, 3, 6, 7))
    state = transform.state_dict()
    wanted = transform(clip)
    transform.load_state_dict(state)
    assert _same(transform(map_clip(clip, lambda x: x[0])), map_clip(wanted, lambda x: x[0]))


@pytest.mark.parametrize("transform", [RandomScale(), RandomFlip(1.0), RandomCrop((2, 2))], ids=lambda x: str(x)[:9])
def test_outside_training_nothing_random_happens(transform):
    clip = _clip(0, (1, 2, 4, 5))
    assert transform.eval()(clip) is clip
    transform.train()


def test_images_and_unlabelled_clips_pass():
    clip = Clip(torch.zeros(2, 1, 3, 8, 9), flow=torch.zeros(2, 0, 2, 8, 9))
    chain = nn.Sequential(Resize((12, 10)), RandomScale(), RandomFlip(1.0), Resize((7, 7)), RandomCrop((4, 5)))
    got = chain(clip)
    assert got.frames.shape == (2, 1, 3, 4, 5)
    assert got.flow.shape == (2, 0, 2, 4, 5)
    assert got.labels is None


class Places(torch.utils.data.Dataset):
    def __init__(self):
        self.crop = nn.Sequential(RandomCrop((1, 1)), OnFrames(PhotometricJitter()))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.crop(Clip(torch.arange(10_000.0).view(100, 100).expand(1, 3, 100, 100)))


def test_workers_and_epochs_draw_differently_and_repeat_with_torch_s_seed():
    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        loader = DataLoader(Places(), num_workers=2, collate_fn=stack_clips, generator=generator, timeout=60)
        return [[clip.frames.flatten()[0].item() for clip in loader] for _ in range(2)]

    first = epochs(1)
    assert len({value for epoch in first for value in epoch}) == 16
    assert first == epochs(1)
    assert first != epochs(2)


CLIP = Clip(torch.zeros(2, 3, 4, 6), torch.zeros(2, 4, 6).long(), torch.zeros(1, 2, 4, 6))


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Resize((0, 4)), ValueError, r"Resize: `size` must be \(height, width\), .*; got \(0, 4\)"),
        (lambda: Resize((1, 2, 3)), ValueError, "Resize: `size` must be"),
        (lambda: RandomCrop((4, 0)), ValueError, "RandomCrop: `size` must be"),
        (lambda: RandomScale(smallest=(0, 1)), ValueError, "RandomScale: `smallest` must be"),
        (lambda: RandomScale(0, 1), ValueError, "RandomScale: `low` and `high` must satisfy 0 < low <= high; got 0"),
        (lambda: RandomScale(2, 1), ValueError, "got 2 and 1"),
        (lambda: RandomScale(1, float("inf")), ValueError, "got 1 and inf"),
        (lambda: RandomFlip(1.5), ValueError, r"RandomFlip: `probability` must lie in \[0, 1\]; got 1.5"),
        (lambda: RandomCrop((1, 1), largest_share=0), ValueError, r"RandomCrop: `largest_share` must lie in \(0, 1\]"),
        (lambda: RandomCrop((5, 6))(CLIP), ValueError, r"at most .*\(H=4, W=6\); got \(5, 6\)\. Resize"),
        (lambda: RandomCrop((4, 7))(CLIP), ValueError, r"at most .*\(H=4, W=6\); got \(4, 7\)"),
        (lambda: RandomCrop((1, 1), largest_share=0.5)(Clip(CLIP.frames)), ValueError, "`clip.labels` must be given"),
        (lambda: Resize((2, 2))(CLIP.frames), TypeError, "Resize: `clip` must be a dastc.Clip; got Tensor"),
        (
            lambda: RandomFlip()(CLIP._replace(labels=CLIP.labels[:, 1:])),
            ValueError,
            r"RandomFlip: `clip.labels` must have shape \(B=1, T=2, H=4, W=6\); got \(1, 2, 3, 6\)",
        ),
        (
            lambda: Resize((2, 2))(CLIP._replace(flow=CLIP.flow.expand(2, -1, -1, -1))),
            ValueError,
            r"Resize: `clip.flow` must have shape \(B=1, T-1=1, 2, H=4, W=6\)",
        ),
        (lambda: Resize((2, 2))(CLIP._replace(labels=CLIP.labels.int())), TypeError, "`clip.labels` must be of dtype"),
        (lambda: OnFrames(lambda x: x[..., 1:])(CLIP), ValueError, r"OnFrames: `change` must keep .*3, 4, 6\); got"),
    ],
)
def test_bad_arguments_are_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_batch_of_no_clip_is_resized_and_cropped():
    clip = Clip(
        torch.zeros(0, 2, 3, 4, 6), torch.zeros(0, 2, 4, 6).long(), torch.zeros(0, 1, 2, 4, 6), torch.zeros(0, 2, 4, 6)
    )
    for transform in (Resize((2, 3)), RandomCrop((2, 3))):
        shapes = [tuple(x.shape) for x in transform(clip)]
        assert shapes == [(0, 2, 3, 2, 3), (0, 2, 2, 3), (0, 1, 2, 2, 3), (0, 2, 2, 3)]
