import copy
import math
import re
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc import Clip
from dastc.fusion import PatchBank, SequencePatchFusion
from dastc.fusion.sequence_patch_fusion import FusedClip

SEEDS = st.integers(0, 2**31 - 1)
FAR = 10_000  # more than there are pixels: keeps the domains' flows apart


class Sizes(NamedTuple):
    b: int = 3
    t: int = 2
    h: int = 5
    w: int = 4
    k: int = 6


SIZES = st.builds(Sizes, *(st.integers(1, n) for n in (3, 3, 5, 4, 7)))


def _clip(domain, sizes, seed=0, *, fields="flow weights", ignored=True):
    """Encode in every field from which domain, sample, frame and pixel it comes."""
    b, t, h, w, k = sizes
    rng = torch.Generator().manual_seed(seed + 7919 * domain)
    labels = torch.randint(0, k, (b, t, h, w), generator=rng)
    if ignored:
        labels[torch.rand(labels.shape, generator=rng) < 0.2] = 255
        labels[torch.rand(labels.shape, generator=rng) < 0.05] = -1
    ids = torch.arange(labels.numel()).view(b, t, h, w)
    frames = torch.stack((torch.full_like(ids, domain), ids // (h * w), ids % (h * w)), dim=2).float()
    flow = torch.stack((FAR * domain + ids[:, 1:], -ids[:, 1:]), dim=2).float()
    return Clip(
        frames,
        labels,
        flow if "flow" in fields else None,
        torch.rand(labels.shape, generator=rng) if "weights" in fields else None,
    )


def _owner(fused, *clips):
    """Say from which clip each pixel came; all of its fields must agree about that, and about the place."""
    clip = fused.clip
    owner = clip.frames[:, :, 0].long()

    def expected(field, at=owner):
        out = getattr(clips[0], field).clone()
        for domain, one in enumerate(clips):
            here = (at == domain).unsqueeze(2) if out.dim() == 5 else at == domain
            out = torch.where(here, getattr(one, field), out)
        return out

    assert torch.equal(clip.frames, expected("frames"))
    assert torch.equal(clip.labels, expected("labels"))
    if clip.flow is not None:
        assert torch.equal(clip.flow, expected("flow", owner[:, 1:]))
    if clip.weights is not None:
        assert torch.equal(clip.weights, expected("weights"))
    return owner


def _pasted_classes(labels, mask, k):
    """Return the table of classes that were pasted; a class is pasted wholly, in all frames, or not at all."""
    table = torch.zeros(len(labels), k, dtype=torch.bool)
    for b in range(len(labels)):
        for c in range(k):
            here = mask[b][labels[b] == c]
            assert here.all() or not here.any()
            table[b, c] = bool(here.any())
    assert not mask[(labels < 0) | (labels >= k)].any()
    return table


def _seen(labels, k):
    """Return which classes the current frame of each sample shows, (B, K)."""
    return torch.stack([(labels[:, -1] == c).flatten(1).any(1) for c in range(k)], dim=1)


def _same(left, right):
    pairs = zip((*left.clip, *left[1:]), (*right.clip, *right[1:]), strict=True)
    return all(a is b is None or torch.equal(a, b) for a, b in pairs)


# --- exchange


def test_exchange_by_hand():
    source = Clip(torch.ones(1, 1, 3, 1, 3), torch.tensor([[[[1, 255, 1]]]]), weights=torch.ones(1, 1, 1, 3))
    target = Clip(torch.zeros(1, 1, 3, 1, 3), torch.tensor([[[[0, 0, 2]]]]), weights=torch.full((1, 1, 1, 3), 0.5))
    in_source, in_target = SequencePatchFusion(3, classes=1)(source, target)
    assert in_target.mask.flatten().tolist() == [True, False, True]
    assert in_target.clip.labels.flatten().tolist() == [1, 0, 1]
    assert in_target.clip.frames[0, 0, 0].flatten().tolist() == [1, 0, 1]
    assert in_target.clip.weights.flatten().tolist() == [1, 0.5, 1]
    assert in_source.clip.labels.flatten().tolist() == [0, 255, 2]
    assert in_source.clip.frames[0, 0, 0].flatten().tolist() == [0, 1, 0]
    assert in_source.clip.weights.flatten().tolist() == [0.5, 1, 0.5]
    assert in_target.clip.flow is None


@given(SEEDS, SIZES, st.sampled_from(["", "flow", "weights", "flow weights"]), st.floats(0.01, 0.99))
def test_exchange_uses_every_pixel_of_both_domains_once(seed, sizes, fields, share):
    source, target = (_clip(domain, sizes, seed, fields=fields) for domain in range(2))
    in_source, in_target = SequencePatchFusion(sizes.k, classes=share, seed=seed)(source, target)
    here, there = _owner(in_source, source, target), _owner(in_target, source, target)
    assert torch.equal(here + there, torch.ones_like(here))
    assert torch.equal(in_source.mask, here == 1)
    assert torch.equal(in_target.mask, there == 0)
    assert not in_source.static.any()
    assert not in_target.static.any()
    for clip in (in_source.clip, in_target.clip):
        assert (clip.flow is not None) == ("flow" in fields)
        assert (clip.weights is not None) == ("weights" in fields)
    table = _pasted_classes(source.labels, in_target.mask, sizes.k)
    seen = _seen(source.labels, sizes.k)
    assert not (table & ~seen).any()
    assert table.sum(1).tolist() == [math.ceil(int(n) * share - 1e-4) for n in seen.sum(1)]


@pytest.mark.parametrize("count", [1, 2, 4, 50])
def test_classes_from_one_on_is_a_count(count):
    sizes = Sizes(b=5)
    source, target = (_clip(domain, sizes) for domain in range(2))
    _, in_target = SequencePatchFusion(sizes.k, classes=count)(source, target)
    table = _pasted_classes(source.labels, in_target.mask, sizes.k)
    assert table.sum(1).tolist() == [min(int(n), count) for n in _seen(source.labels, sizes.k).sum(1)]


def test_each_frame_is_cut_by_its_own_labels_and_flow_follows_the_later_one():
    source, target = (_clip(domain, Sizes(1, 3, 1, 4, 2)) for domain in range(2))
    labels = torch.tensor([[[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 255]]]])
    target = target._replace(labels=torch.zeros_like(labels))
    masks = set()
    for seed in range(20):  # class 0 or class 1 is drawn
        _, fused = SequencePatchFusion(2, classes=1, seed=seed)(source._replace(labels=labels), target)
        moved = fused.clip.flow[0, :, 0, 0] < FAR  # the source's
        assert torch.equal(moved, fused.mask[0, 1:, 0])
        masks.add(tuple(fused.mask.flatten().int().tolist()))
    assert masks == {(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), (0, 1, 1, 1, 1, 0, 1, 1, 1, 1, 0, 0)}


def test_the_draw_looks_at_the_current_frame():
    labels = torch.tensor([[[[0, 1]], [[1, 1]]]])  # class 0 has gone
    source = Clip(torch.ones(1, 2, 3, 1, 2), labels)
    for seed in range(10):
        _, fused = SequencePatchFusion(2, classes=1, seed=seed)(source, source)
        assert fused.mask.flatten().tolist() == [False, True, True, True]


def test_every_class_gets_its_turn():
    source = Clip(torch.ones(1, 1, 3, 1, 4), torch.arange(4).view(1, 1, 1, 4))
    fusion = SequencePatchFusion(4, classes=1)
    drawn = sum(fusion(source, source)[0].mask.flatten().int() for _ in range(200))
    assert drawn.sum() == 200
    assert drawn.min() > 25


@pytest.mark.parametrize(("probability", "share"), [(0.0, 0.0), (1.0, 1.0), (0.4, 0.4)])
def test_rare_classes_come_on_top_with_their_probability(probability, share):
    source = Clip(torch.ones(400, 2, 3, 1, 3), torch.tensor([[[0, 3, 2]], [[0, 0, 0]]]).expand(400, 2, 1, 3))
    fusion = SequencePatchFusion(4, classes=1, rare_classes=[3, 2], rare_probability=probability)
    _, fused = fusion(source, source)
    assert fused.mask[:, :, 0, 0].all()  # the class that is drawn, as it is alone in the current frame
    assert abs(float(fused.mask[:, 0, 0, 1].float().mean()) - share) < (0.08 if 0 < share < 1 else 1e-9)
    assert torch.equal(fused.mask[:, 0, 0, 1], fused.mask[:, 0, 0, 2])  # all rare classes of a sample, or none


def test_rare_classes_are_always_pasted_by_default():
    sizes = Sizes(b=8)
    source, target = (_clip(domain, sizes) for domain in range(2))
    _, fused = SequencePatchFusion(sizes.k, classes=1, rare_classes=[2, 4])(source, target)
    wanted = (source.labels == 2) | (source.labels == 4)
    assert fused.mask[wanted].all()
    assert (_pasted_classes(source.labels, fused.mask, sizes.k)[:, [0, 1, 3, 5]].sum(1) <= 1).all()


def test_a_sample_does_not_depend_on_its_neighbours():
    sizes = Sizes()
    source, target, other = (_clip(domain, sizes) for domain in range(3))
    mixed = [torch.cat((x[:1], y[1:])) for x, y in zip(source, other, strict=True)]
    kwargs = {"rare_classes": [1], "rare_probability": 0.5, "seed": 3}
    alone = SequencePatchFusion(sizes.k, **kwargs)(source, target)[1]
    among = SequencePatchFusion(sizes.k, **kwargs)(Clip(*mixed), target)[1]
    assert torch.equal(alone.clip.frames[0], among.clip.frames[0])
    assert torch.equal(alone.mask[0], among.mask[0])
    assert not torch.equal(alone.mask[1:], among.mask[1:])


@pytest.mark.parametrize("form", ["exchange", "shared"])
@pytest.mark.parametrize("sizes", [Sizes(t=1), Sizes(b=1), Sizes(b=0), Sizes(1, 1, 1, 1, 1)])
def test_sizes_of_one_and_none(sizes, form):
    clips = [_clip(domain, sizes) for domain in range(4)]
    out = SequencePatchFusion(sizes.k)(*clips[: 2 if form == "exchange" else 4])
    for fused in out:
        _owner(fused, *clips)
        assert fused.mask.shape == fused.static.shape == clips[0].labels.shape
        assert fused.clip.flow.shape == clips[0].flow.shape


def test_a_still_image_needs_no_flow():
    clips = [_clip(domain, Sizes(t=1), fields="weights") for domain in range(4)]
    for fused in SequencePatchFusion(6)(*clips):
        assert fused.clip.flow is None
        _owner(fused, *clips)


@pytest.mark.parametrize("lacking", [0, 1, 2, 3])
def test_a_clip_without_weights_counts_fully(lacking):
    clips = [_clip(domain, Sizes()) for domain in range(4)]
    full = [c._replace(weights=torch.ones_like(c.weights)) if i == lacking else c for i, c in enumerate(clips)]
    bare = [c._replace(weights=None) if i == lacking else c for i, c in enumerate(clips)]
    for given_, expected in zip(SequencePatchFusion(6)(*bare), SequencePatchFusion(6)(*full), strict=True):
        assert _same(given_, expected)
        owner = _owner(given_, *full)
        assert (given_.clip.weights[owner == lacking] == 1).all()


def test_contexts_with_masks_of_their_own_each_follow_the_source_labels():
    source, target = (_clip(domain, Sizes(b=8, h=8, w=8), ignored=False) for domain in range(2))
    in_source, in_target = SequencePatchFusion(6, complementary=False, seed=2)(source, target)
    here, there = _owner(in_source, source, target), _owner(in_target, source, target)
    assert torch.equal(here == 1, in_source.mask)
    assert torch.equal(there == 0, in_target.mask)
    drawn = [_pasted_classes(source.labels, mask, 6) for mask in (in_source.mask, in_target.mask)]
    for classes, mask in zip(drawn, (in_source.mask, in_target.mask), strict=True):
        assert classes.sum(1).eq(3).all()  # half of the six
        whole = classes.gather(1, source.labels.flatten(1)).view(mask.shape)
        assert torch.equal(mask, whole)
    assert (drawn[0] != drawn[1]).any(1).sum() >= 4
    assert not (in_source.static | in_target.static).any()


# --- shared


@given(SEEDS, SIZES, st.sampled_from([0.3, 0.5, 1, 2]), st.sampled_from([0.3, 1, 2]), st.floats(0, 1))
def test_shared_patches_are_the_same_in_both_contexts(seed, sizes, classes, target_classes, threshold):
    clips = [_clip(domain, sizes, seed) for domain in range(4)]
    fusion = SequencePatchFusion(
        sizes.k, classes=classes, target_classes=target_classes, threshold=threshold, seed=seed
    )
    in_source, in_target = fusion(*clips)
    here, there = _owner(in_source, *clips), _owner(in_target, *clips)
    assert torch.equal(in_source.mask, in_target.mask)
    pasted = in_source.mask
    assert (here[~pasted] == 0).all()
    assert (there[~pasted] == 1).all()
    assert torch.equal(here[pasted], there[pasted])
    assert (here[pasted] >= 2).all()
    assert not (in_source.static | in_target.static).any()
    sure = clips[3].labels.where(clips[3].weights >= threshold, 255)
    of_target = _pasted_classes(sure, here == 3, sizes.k)
    below = clips[2].labels.where(here != 3, 255)  # target patches lie on top
    of_source = _pasted_classes(below, here == 2, sizes.k)
    assert not (of_source & of_target).any()
    assert of_target.sum(1).le(sizes.k).all()


def test_shared_draws_from_the_patches_not_from_the_clip():
    source, target, patches = (_clip(domain, Sizes(k=3), ignored=False) for domain in range(3))
    patches = patches._replace(labels=torch.full_like(patches.labels, 1))
    for fused in SequencePatchFusion(3, classes=1)(source, target, patches):
        assert fused.mask.all()
        assert (_owner(fused, source, target, patches) == 2).all()


@pytest.mark.parametrize(("amount", "expected"), [(1, 1), (2, 2), (3, 3), (9, 4), (0.5, 2), (0.8, 4)])
def test_target_classes_are_drawn_from_those_that_are_free(amount, expected):
    clips = [_clip(domain, Sizes(b=6, h=8, w=8), ignored=False) for domain in range(4)]  # all 6 classes everywhere
    clips[3] = clips[3]._replace(weights=None)
    in_source, _ = SequencePatchFusion(6, classes=2, target_classes=amount)(*clips)
    owner = _owner(in_source, *clips[:3], clips[3]._replace(weights=torch.ones_like(clips[0].weights)))
    table = _pasted_classes(clips[3].labels, owner == 3, 6)
    assert table.sum(1).tolist() == [expected] * 6


def test_target_classes_avoid_what_is_pasted_now():
    # the whole template is of class 1 and rare class 2 is taken, too; only class 0 is left for the target's patches
    clips = [_clip(domain, Sizes(k=3), ignored=False) for domain in range(4)]
    clips[0] = clips[0]._replace(labels=torch.zeros_like(clips[0].labels))
    clips[2] = clips[2]._replace(labels=torch.ones_like(clips[2].labels))
    clips[3] = clips[3]._replace(weights=torch.ones_like(clips[3].weights))
    for seed in range(5):
        in_source, _ = SequencePatchFusion(3, classes=1, target_classes=2, rare_classes=[2], seed=seed)(*clips)
        assert torch.equal(_owner(in_source, *clips) == 3, clips[3].labels == 0)


def test_target_classes_avoid_what_is_pasted_now_in_the_exchange_too():
    source, target, patches = (_clip(domain, Sizes(k=2), ignored=False) for domain in range(3))
    source = source._replace(labels=torch.ones_like(source.labels))
    patches = patches._replace(weights=None)
    in_source, in_target = SequencePatchFusion(2, classes=1)(source, target, None, patches)
    for fused, below in ((in_source, 1), (in_target, 0)):  # the source is of class 1 everywhere, so all is exchanged
        owner = fused.clip.frames[:, :, 0]
        assert torch.equal(owner == 2, patches.labels == 0)
        assert (owner[patches.labels != 0] == below).all()


def test_target_patches_are_confident():
    clips = [_clip(domain, Sizes(1, 1, 1, 4, 3), fields="weights") for domain in range(4)]
    clips[2] = clips[2]._replace(labels=torch.full_like(clips[2].labels, 255))  # nothing from the source's
    weights = torch.tensor([[[[0.89, 0.9, 0.91, 1.0]]]])
    clips[3] = clips[3]._replace(labels=torch.ones_like(clips[3].labels), weights=weights)

    def pasted(**kwargs):
        return SequencePatchFusion(3, **kwargs)(*clips)[1].mask.flatten().tolist()

    assert pasted() == [False, True, True, True]
    assert pasted(threshold=0.95) == [False, False, False, True]
    assert pasted(threshold=0.0) == [True] * 4
    assert pasted(threshold=1.0) == [False, False, False, True]


def test_a_class_without_any_confident_pixel_is_not_drawn():
    clips = [_clip(domain, Sizes(1, 1, 1, 2, 3), fields="weights") for domain in range(4)]
    clips[2] = clips[2]._replace(labels=torch.full_like(clips[2].labels, 255))
    clips[3] = clips[3]._replace(labels=torch.tensor([[[[1, 2]]]]), weights=torch.tensor([[[[0.5, 0.95]]]]))
    for seed in range(10):
        _, fused = SequencePatchFusion(3, target_classes=1, seed=seed)(*clips)
        assert fused.mask.flatten().tolist() == [False, True]


def test_target_classes_are_those_of_the_current_frame():
    clips = [_clip(domain, Sizes(1, 2, 1, 2, 3), fields="weights") for domain in range(4)]
    clips[2] = clips[2]._replace(labels=torch.full_like(clips[2].labels, 255))
    labels, sure = torch.tensor([[[[1, 2]], [[2, 2]]]]), torch.ones(1, 2, 1, 2)
    clips[3] = clips[3]._replace(labels=labels, weights=sure)
    for seed in range(10):  # class 1 has gone
        _, fused = SequencePatchFusion(3, target_classes=1, seed=seed)(*clips)
        assert fused.mask.flatten().tolist() == [False, True, True, True]


@pytest.mark.parametrize("shared", [False, True])
def test_an_ignored_label_that_is_a_class_is_never_pasted(shared):
    clips = [_clip(domain, Sizes(b=2, h=6, w=6, k=4), ignored=False) for domain in range(4 if shared else 2)]

    def fused(ignore_index, *clips):
        bank = PatchBank(4, classes=[2, 3], min_pixels=1, ignore_index=ignore_index)
        fusion = SequencePatchFusion(4, classes=2, bank=bank, bank_classes=1, seed=3, ignore_index=ignore_index)
        return [fusion(*clips) for _ in range(8)]

    inside = fused(0, *clips)
    outside = fused(255, *(clip._replace(labels=clip.labels.where(clip.labels != 0, 255)) for clip in clips))
    for one, other in zip(inside, outside, strict=True):
        for mine, same in zip(one, other, strict=True):
            assert torch.equal(mine.mask, same.mask)
            assert torch.equal(mine.static, same.static)
            assert torch.equal(mine.clip.frames, same.clip.frames)
    assert any(one.static.any() for pair in inside for one in pair)


def test_ignore_index_may_lie_on_either_side_of_the_classes():
    clips = [_clip(domain, Sizes(1, 1, 1, 2, 3), fields="weights") for domain in range(4)]
    clips[2] = clips[2]._replace(labels=torch.full_like(clips[2].labels, -1))
    clips[3] = clips[3]._replace(labels=torch.tensor([[[[255, 7]]]]), weights=torch.tensor([[[[0.5, 0.95]]]]))
    for seed in range(10):  # with 300 classes, 255 is one: no unsure pixel may be renamed to it and then be drawn
        _, fused = SequencePatchFusion(300, target_classes=1, ignore_index=-1, seed=seed)(*clips)
        assert fused.mask.flatten().tolist() == [False, True]


@pytest.mark.parametrize("opacity", [0.25, 1.0])
@pytest.mark.parametrize("form", ["exchange", "shared"])
def test_a_soft_paste_blends_frames_only(opacity, form):
    sizes = Sizes(2, 2, 6, 6, 4)
    clips = [_clip(domain, sizes) for domain in range(3)][: 2 if form == "exchange" else 3]
    soft = SequencePatchFusion(4, opacity=opacity)(*clips)
    hard = SequencePatchFusion(4)(*clips)
    for context, (s, h) in enumerate(zip(soft, hard, strict=True)):
        behind = clips[context].frames
        blend = torch.where(h.mask.unsqueeze(2), opacity * h.clip.frames + (1 - opacity) * behind, behind)
        torch.testing.assert_close(s.clip.frames, blend)
        assert _same(s._replace(clip=s.clip._replace(frames=h.clip.frames)), h)


# --- the bank


def _bank(k=4, classes=(2, 3), **kwargs):
    return PatchBank(k, classes=classes, min_pixels=1, **kwargs)


@pytest.mark.parametrize("form", ["exchange", "shared"])
def test_bank_patches_are_static_and_the_same_in_both_contexts(form):
    sizes = Sizes(2, 3, 5, 5, 4)
    clips = [_clip(domain, sizes) for domain in range(3)]
    fusion = SequencePatchFusion(4, bank=_bank(), classes=1)
    in_source, in_target = fusion(*clips[: 2 if form == "exchange" else 3])
    static = in_source.static
    assert static.any()
    assert torch.equal(static, in_target.static)
    assert torch.equal(static, static[:, :1].expand_as(static))
    # the pictures are current frames of the source: sample b's has the id b T + T - 1
    frames = in_source.clip.frames.movedim(2, -1)[static]
    assert (frames[:, 0] == 0).all()
    assert set(frames[:, 1].tolist()) <= {2.0, 5.0}
    for fused in (in_source, in_target):
        assert fused.mask[static].all()
        assert fused.mask.sum() > static.sum()
        for x in (fused.clip.frames, fused.clip.labels.unsqueeze(2)):
            still = x.where(static.unsqueeze(2), 0)
            assert torch.equal(still, still[:, :1].expand_as(still))
        assert set(fused.clip.labels[static].tolist()) <= {2, 3}
        assert (fused.clip.weights[static] == 1).all()
        moves = fused.clip.flow.abs().sum(2)
        assert torch.equal(moves == 0, static[:, 1:])
    assert torch.equal(in_source.clip.frames.movedim(2, -1)[static], in_target.clip.frames.movedim(2, -1)[static])


def test_what_is_not_static_is_as_without_the_bank():
    clips = [_clip(domain, Sizes(2, 2, 5, 5, 4)) for domain in range(3)]
    plain = SequencePatchFusion(4)(*clips)
    for fused, without in zip(SequencePatchFusion(4, bank=_bank())(*clips), plain, strict=True):
        assert torch.equal(fused.mask, without.mask | fused.static)
        assert torch.equal(fused.clip.labels.where(~fused.static, 0), without.clip.labels.where(~fused.static, 0))
        assert torch.equal(fused.clip.weights.where(~fused.static, 0), without.clip.weights.where(~fused.static, 0))


def test_the_bank_is_filled_from_the_source_while_training_only():
    source, target, patches = (_clip(domain, Sizes(k=4)) for domain in range(3))
    fusion = SequencePatchFusion(4, bank=_bank(capacity=3))
    fusion(source, target, patches)
    assert (fusion.bank.frames[:, 0, 0] == 0).all()  # domain 0
    assert fusion.bank.written.tolist() == [1, 1]
    fusion.eval()
    before = copy.deepcopy(fusion.bank.state_dict())
    fused, _ = fusion(target, source)
    assert fused.static.any()
    assert all(torch.equal(x, before[name]) for name, x in fusion.bank.state_dict().items())


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_bank_classes_is_how_many_to_take(count):
    source, target = (_clip(domain, Sizes(4, 1, 8, 8, 4), fields="weights", ignored=False) for domain in range(2))
    fused, _ = SequencePatchFusion(4, bank=_bank(classes=(1, 2, 3)), bank_classes=count)(source, target)
    found = [len(set(labels[static].tolist())) for labels, static in zip(fused.clip.labels, fused.static, strict=True)]
    assert found == [min(count, 3)] * 4


def test_a_bank_that_has_nothing_gives_nothing():
    source, target = (_clip(domain, Sizes(k=2)) for domain in range(2))
    with_bank = SequencePatchFusion(4, bank=_bank())(source, target)
    assert all(_same(a, b) for a, b in zip(with_bank, SequencePatchFusion(4)(source, target), strict=True))


def test_target_patches_lie_on_top_of_static_ones():
    clips = [_clip(domain, Sizes(1, 2, 4, 4, 4), ignored=False) for domain in range(4)]
    clips[0].labels.fill_(2)
    clips[2].labels.fill_(0)
    clips[3] = clips[3]._replace(weights=torch.ones_like(clips[3].weights))
    clips[3].labels[:] = torch.tensor([1, 1, 255, 255])  # the left half
    left = torch.tensor([True, True, False, False]).expand(1, 2, 4, 4)
    for fused in SequencePatchFusion(4, bank=_bank(classes=(2,)))(*clips):
        assert fused.mask.all()
        assert torch.equal(fused.static, ~left)
        assert torch.equal(fused.clip.frames[:, :, 0] == 3, left)


# --- randomness and state


def test_a_seed_fixes_the_draws_and_nothing_else_does():
    clips = [_clip(domain, Sizes(b=8)) for domain in range(2)]

    def draws(seed, disturb):
        fusion = SequencePatchFusion(6, rare_classes=[1], rare_probability=0.5, seed=seed)
        torch.manual_seed(disturb)
        before = torch.get_rng_state()
        out = [fusion(*clips)[0].mask for _ in range(3)]
        assert torch.equal(torch.get_rng_state(), before)
        return torch.stack(out)

    assert torch.equal(draws(4, 0), draws(4, 1))
    assert not torch.equal(draws(4, 0), draws(5, 0))
    first, second, _ = draws(4, 0)
    assert not torch.equal(first, second)


def test_the_default_seed_is_zero():
    clips = [_clip(domain, Sizes(b=8)) for domain in range(2)]
    assert _same(SequencePatchFusion(6)(*clips)[0], SequencePatchFusion(6, seed=0)(*clips)[0])


def test_a_resumed_run_draws_what_it_would_have_drawn(tmp_path):
    sizes = Sizes(4, 2, 5, 5, 4)
    clips = [[_clip(domain, sizes, seed) for domain in range(4)] for seed in range(5)]

    def fusion(seed):
        return SequencePatchFusion(4, bank=_bank(), rare_classes=[1], rare_probability=0.5, seed=seed)

    run = fusion(1)
    for one in clips[:3]:
        run(*one)
    torch.save(run.state_dict(), tmp_path / "state.pt")
    expected = [run(*one) for one in clips[3:]]
    resumed = fusion(2)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt"))
    found = [resumed(*one) for one in clips[3:]]
    for one, other in zip(expected, found, strict=True):
        assert all(_same(a, b) for a, b in zip(one, other, strict=True))


def test_a_copy_goes_its_own_way_from_here():
    clips = [_clip(domain, Sizes(b=8)) for domain in range(2)]
    fusion = SequencePatchFusion(6)
    fusion(*clips)
    other = copy.deepcopy(fusion)
    expected = [fusion(*clips)[0] for _ in range(2)]
    assert all(_same(other(*clips)[0], one) for one in expected)


def test_gradients_reach_the_frames_they_came_from():
    clips = [_clip(domain, Sizes()) for domain in range(4)]
    clips = [c._replace(frames=c.frames.requires_grad_()) for c in clips]
    in_source, _ = SequencePatchFusion(6)(*clips)
    upstream = torch.randn(in_source.clip.frames.shape)
    in_source.clip.frames.backward(upstream)
    owner = in_source.clip.frames.detach()[:, :, :1]
    for domain in (0, 2, 3):
        assert torch.equal(clips[domain].frames.grad, upstream.where(owner == domain, 0))
    assert clips[1].frames.grad is None  # the target is not in source context


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtypes_pass_through(dtype):
    clips = [
        Clip(*(x if x is None or not x.is_floating_point() else x.to(dtype) for x in _clip(domain, Sizes(k=4))))
        for domain in range(4)
    ]
    for fused in SequencePatchFusion(4, bank=_bank()).to(dtype)(*clips):
        assert {x.dtype for x in (fused.clip.frames, fused.clip.flow, fused.clip.weights)} == {dtype}
        assert fused.static.any()


# --- arguments


def test_extra_repr_shows_the_arguments():
    fusion = SequencePatchFusion(
        9, rare_classes=[1, 2], rare_probability=0.25, classes=3, target_classes=0.75, threshold=0.8,
        complementary=False, bank=_bank(), bank_classes=1, opacity=0.5, seed=11, ignore_index=-1,
    )  # fmt: skip
    assert fusion.extra_repr() == (
        "num_classes=9, rare_classes=(1, 2), rare_probability=0.25, classes=3, target_classes=0.75, "
        "complementary=False, threshold=0.8, bank_classes=1, opacity=0.5, seed=11, ignore_index=-1"
    )
    assert "PatchBank" in repr(fusion)


SHARE = "must be a share in (0, 1) or a whole number >= 1; got"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_classes": 0}, "`num_classes` must be at least 1; got 0."),
        ({"rare_probability": 1.1}, "`rare_probability` must lie in [0, 1]; got 1.1."),
        ({"threshold": -0.1}, "`threshold` must lie in [0, 1]; got -0.1."),
        ({"threshold": float("nan")}, "`threshold` must lie in [0, 1]; got nan."),
        ({"bank_classes": -1}, "`bank_classes` must be at least 0; got -1."),
        ({"classes": 0}, f"`classes` {SHARE} 0."),
        ({"classes": 1.5}, f"`classes` {SHARE} 1.5."),
        ({"target_classes": -2}, f"`target_classes` {SHARE} -2."),
        ({"target_classes": float("nan")}, f"`target_classes` {SHARE} nan."),
        ({"opacity": 0.0}, "`opacity` must lie in (0, 1]; got 0.0."),
        ({"opacity": 1.5}, "`opacity` must lie in (0, 1]; got 1.5."),
        ({"rare_classes": [1, 5]}, "`rare_classes` must be labels in [0, K=5); got [1, 5]."),
        ({"rare_classes": [1], "ignore_index": 1}, "`rare_classes` must not hold `ignore_index`, 1; got [1]."),
        ({"rare_classes": [-1]}, "`rare_classes` must be labels in [0, K=5); got [-1]."),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape('SequencePatchFusion: ' + message)}$"):
        SequencePatchFusion(**({"num_classes": 5} | kwargs))


@pytest.mark.parametrize("name", ["source", "target", "source_patches", "target_patches"])
def test_clips_that_do_not_fit(name):
    names = ["source", "target", "source_patches", "target_patches"]

    def call(change):
        clips = {n: _clip(i, Sizes(2, 2, 5, 4, 3)) for i, n in enumerate(names)}
        clips[name] = change(clips[name])
        return SequencePatchFusion(3)(**clips)

    with pytest.raises(TypeError, match=rf"^SequencePatchFusion: `{name}` must be a dastc\.Clip; got tuple\.$"):
        call(tuple)
    with pytest.raises(ValueError, match=rf"^SequencePatchFusion: `{name}\.labels` must be given; got None\.$"):
        call(lambda clip: clip._replace(labels=None))
    with pytest.raises(TypeError, match=rf"^SequencePatchFusion: `{name}\.labels` must be of dtype int64; got torch"):
        call(lambda clip: clip._replace(labels=clip.labels.int()))
    lacks, has = (name, "target" if name == "source" else "source")
    message = f"SequencePatchFusion: `{lacks}.flow` must be given, as `{has}` has flow; got None. Drop it or give both."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        call(lambda clip: clip._replace(flow=None))
    if name != "source":
        message = (
            f"SequencePatchFusion: `{name}.frames` must have shape (B=2, T=2, C=3, H=5, W=4); got (2, 2, 3, 4, 5)."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(lambda _: _clip(1, Sizes(2, 2, 4, 5, 3)))
        message = (
            f"SequencePatchFusion: `{name}.frames` must have shape (B=2, T=2, C=3, H=5, W=4); got (2, 2, 1, 5, 4)."
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call(lambda clip: clip._replace(frames=clip.frames[:, :, :1]))


def test_clips_that_do_not_fit_leave_no_trace():
    fusion = SequencePatchFusion(4, bank=_bank())
    clips = [_clip(domain, Sizes(k=4)) for domain in range(2)]
    before = fusion.random.get_extra_state()
    with pytest.raises(ValueError, match="target_patches"):
        fusion(*clips, None, clips[0]._replace(labels=None))
    assert torch.equal(fusion.random.get_extra_state(), before)
    assert not fusion.bank.has_seen


@pytest.mark.parametrize("complementary", [True, False])
@pytest.mark.parametrize("bank", [False, True], ids=["", "bank"])
@pytest.mark.parametrize("form", ["exchange", "shared"])
def test_every_pixel_is_known_to_be_of_the_source_or_not(form, bank, complementary):
    clips = [_clip(domain, Sizes(k=4)) for domain in range(4)]
    clips[3] = clips[3]._replace(weights=torch.ones_like(clips[3].weights))
    fusion = SequencePatchFusion(4, classes=1, bank=_bank() if bank else None, complementary=complementary)
    for fused in fusion(*clips[: 2 if form == "exchange" else 4]):
        domain = fused.clip.frames[:, :, 0]  # 1 and 3 are the target's; the bank holds source frames
        assert torch.equal(fused.from_source, (domain == 0) | (domain == 2))
        assert fused.from_source.any()
        assert not fused.from_source.all()


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("form", ["exchange", "shared"])
def test_frames_of_any_number_of_channels_are_fused_alike(form, channels):
    clips = [_clip(domain, Sizes(k=4)) for domain in range(3)][: 2 if form == "exchange" else 3]
    other = [x._replace(frames=x.frames.repeat(1, 1, 2, 1, 1)[:, :, :channels]) for x in clips]
    fused, wanted = (SequencePatchFusion(4, bank=_bank(), seed=1)(*x) for x in (other, clips))
    for found, want in zip(fused, wanted, strict=True):
        assert found.static.any()
        frames = want.clip.frames.repeat(1, 1, 2, 1, 1)[:, :, :channels]
        assert _same(found, want._replace(clip=want.clip._replace(frames=frames)))


def test_a_fused_clip_names_its_parts():
    assert FusedClip._fields == ("clip", "mask", "static", "from_source")
