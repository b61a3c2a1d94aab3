import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc import Clip
from dastc.fusion import PatchBank

SEEDS = st.integers(0, 2**31 - 1)


def _clip(labels, value=1.0, dtype=torch.float32):
    labels = torch.as_tensor(labels)
    b, t, h, w = labels.shape
    return Clip(torch.full((b, t, 3, h, w), value, dtype=dtype), labels)


def _row(*labels):
    return torch.tensor(labels).view(1, 1, 1, -1)


def _rng(seed=0):
    return torch.Generator().manual_seed(seed)


def _numbered(labels, seed=0):
    """Frames that say which sample, frame and pixel they are, plus a number of their own."""
    labels = torch.as_tensor(labels)
    b, t, h, w = labels.shape
    ids = torch.arange(labels.numel()).view(b, t, h, w)
    return Clip(torch.stack((torch.full_like(ids, seed), ids // (h * w), ids % (h * w)), dim=2).float(), labels)


def test_it_keeps_the_sample_that_shows_most():
    bank = PatchBank(4, classes=[2, 3], capacity=2, min_pixels=1)
    labels = torch.tensor([[[[2, 0, 3, 3]]], [[[2, 2, 3, 255]]]])
    bank.update(_numbered(labels))
    assert bank.written.tolist() == [1, 1]
    assert bank.labels[:, 0, 0].tolist() == [[2, 2, 255, 255], [255, 255, 3, 3]]
    assert bank.labels[:, 1].eq(255).all()
    assert bank.frames[:, 0, 1, 0, 0].tolist() == [1, 0]  # sample 1 for class 2, sample 0 for class 3
    assert torch.equal(bank.frames[0, 0, 2, 0], torch.arange(4.0))


def test_it_looks_at_the_current_frame():
    bank = PatchBank(2, classes=[1], min_pixels=1)
    bank.update(_numbered([[[[1, 1, 1]], [[0, 1, 0]]]]))
    assert bank.labels[0, 0].tolist() == [[255, 1, 255]]
    assert bank.frames[0, 0, 1].eq(1).all()


@pytest.mark.parametrize(("pixels", "kept"), [(1, 0), (2, 0), (3, 1), (4, 1)])
def test_min_pixels_are_enough(pixels, kept):
    bank = PatchBank(2, classes=[1], min_pixels=3)
    bank.update(_clip(_row(*[1] * pixels, *[0] * (4 - pixels))))
    assert bank.written.tolist() == [kept]
    assert int((bank.labels == 1).sum()) == pixels * kept


def test_sixteen_pixels_are_the_default():
    for pixels in (15, 16):
        bank = PatchBank(2, classes=[1])
        bank.update(_clip(_row(*[1] * pixels, *[0] * 4)))
        assert bank.written.tolist() == [pixels // 16]


def test_pixels_of_several_samples_do_not_add_up():
    bank = PatchBank(2, classes=[1], min_pixels=3)
    bank.update(_clip(torch.tensor([1, 1, 0, 0]).expand(3, 1, 1, 4)))
    assert bank.written.tolist() == [0]


def test_the_oldest_goes_first():
    bank = PatchBank(3, classes=[1, 2], capacity=2, min_pixels=1)
    kept = []
    for value in range(1, 6):
        bank.update(_clip(_row(1, 2 if value == 1 else 0), float(value)))
        kept.append(bank.frames[:, :, 0, 0, 0].tolist())
    assert [one[0] for one in kept] == [[1, 0], [1, 2], [3, 2], [3, 4], [5, 4]]
    assert all(one[1] == [1, 0] for one in kept)  # a class that is not seen keeps its own
    assert bank.written.tolist() == [5, 1]


def test_a_class_that_is_too_small_keeps_its_own():
    bank = PatchBank(2, classes=[1], capacity=1, min_pixels=2)
    bank.update(_clip(_row(1, 1, 0), 5.0))
    bank.update(_clip(_row(1, 0, 0), 6.0))
    assert bank.frames.eq(5).all()
    assert bank.labels.flatten().tolist() == [1, 1, 255]


@given(SEEDS, st.integers(1, 3), st.integers(1, 6), st.integers(0, 4))
def test_samples_are_whole_patches_that_were_seen(seed, capacity, updates, amount):
    rng = _rng(seed)
    bank = PatchBank(5, classes=[1, 3, 4], capacity=capacity, min_pixels=2)
    seen = {1: [], 3: [], 4: []}
    for number in range(updates):
        clip = _numbered(torch.randint(0, 5, (2, 1, 3, 3), generator=rng), number)
        bank.update(clip)
        for c, history in seen.items():
            pixels = [(clip.labels[b, 0] == c) for b in range(2)]
            if max(int(p.sum()) for p in pixels) >= 2:
                history.append((number, pixels[0] if pixels[0].sum() >= pixels[1].sum() else pixels[1]))
    frames, labels = bank.sample(amount, batch=4, generator=rng)
    assert frames.shape == (4, 3, 3, 3)
    assert labels.dtype == torch.int64
    for b in range(4):
        found = set(labels[b].unique().tolist()) - {255}
        known = {c for c, history in seen.items() if history}
        assert found <= known
        assert len(found) <= amount
        assert found or not known or not amount
        for c in found:
            here = labels[b] == c
            numbers = frames[b, 0][here].unique()
            assert len(numbers) == 1  # a class comes from one picture
            patch = dict(seen[c][-capacity:])[int(numbers)]
            assert not (here & ~patch).any()
            covered = torch.isin(labels[b], torch.tensor([other for other in (1, 3, 4) if other > c]))
            assert torch.equal(here | (patch & covered), patch)  # nothing else hides it than a class named later


@pytest.mark.parametrize("classes", [[1, 2], [2, 1]])
def test_the_class_named_last_lies_on_top(classes):
    bank = PatchBank(3, classes=classes, min_pixels=1)
    bank.update(_clip(_row(1, 1, 0), 10.0))
    bank.update(_clip(_row(0, 2, 2), 20.0))
    frames, labels = bank.sample(2, batch=1)
    top = classes[-1]
    assert labels.flatten().tolist() == [1, top, 2]
    assert frames[0, 0, 0].tolist() == [10, 10.0 * top, 20]


def test_every_picture_and_class_gets_its_turn():
    bank = PatchBank(3, classes=[1, 2], capacity=3, min_pixels=1)
    for value in range(1, 4):
        bank.update(_clip(_row(1, 2), float(value)))
    frames, labels = bank.sample(1, batch=600, generator=_rng())
    shown = (labels.flatten(1) != 255).int().argmax(dim=1)
    value = frames[:, 0, 0].gather(1, shown[:, None]).squeeze(1)
    counts = torch.bincount((shown * 3 + value.long() - 1), minlength=6)
    assert counts.sum() == 600
    assert counts.min() > 60


def test_pictures_not_yet_written_are_not_handed_out():
    bank = PatchBank(3, classes=[1, 2], capacity=50, min_pixels=1)
    bank.update(_clip(_row(1, 0), 7.0))
    frames, labels = bank.sample(2, batch=100, generator=_rng())
    assert torch.equal(labels, torch.tensor([1, 255]).expand(100, 1, 2))
    assert frames[:, :, 0, 0].eq(7).all()


def test_known_classes_are_preferred():
    bank = PatchBank(4, classes=[1, 2, 3], min_pixels=1)
    bank.update(_clip(_row(2, 0)))
    _, labels = bank.sample(1, batch=50, generator=_rng())
    assert (labels[:, 0, 0] == 2).all()


def test_an_empty_bank_gives_nothing():
    bank = PatchBank(3, classes=[1, 2], min_pixels=1)
    bank.update(_clip(_row(0, 255)))
    assert bank.has_seen
    frames, labels = bank.sample(2, batch=3)
    assert labels.shape == (3, 1, 2)
    assert labels.eq(255).all()
    assert frames.shape == (3, 3, 1, 2)


def test_no_class_wanted_gives_nothing():
    bank = PatchBank(3, classes=[1], min_pixels=1)
    bank.update(_clip(_row(1, 1)))
    assert bank.sample(0, batch=2)[1].eq(255).all()


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_batches(batch):
    bank = PatchBank(3, classes=[1], min_pixels=1)
    bank.update(_clip(torch.zeros(0, 2, 4, 5, dtype=torch.long)))
    assert bank.written.tolist() == [0]
    bank.update(_clip(torch.ones(2, 2, 4, 5, dtype=torch.long)))
    frames, labels = bank.sample(1, batch=batch)
    assert frames.shape == (batch, 3, 4, 5)
    assert torch.equal(labels, torch.ones(batch, 4, 5, dtype=torch.long))


def test_ignore_index_surrounds_the_patches():
    bank = PatchBank(3, classes=[1], min_pixels=1, ignore_index=-1)
    bank.update(_clip(_row(1, 0)))
    assert bank.sample(1, batch=1)[1].flatten().tolist() == [1, -1]


def test_a_generator_fixes_the_draw():
    bank = PatchBank(5, classes=[1, 2, 3, 4], min_pixels=1)
    bank.update(_clip(_row(1, 2, 3, 4)))

    def draw(seed, disturb):
        torch.manual_seed(disturb)
        return bank.sample(2, batch=8, generator=_rng(seed))[1]

    assert torch.equal(draw(3, 0), draw(3, 1))
    assert not torch.equal(draw(3, 0), draw(4, 0))


def test_it_remembers_values_not_graphs():
    clip = _clip(_row(1, 1))
    frames = clip.frames.requires_grad_()
    bank = PatchBank(2, classes=[1], min_pixels=1)
    bank.update(clip._replace(frames=frames))
    with torch.no_grad():
        frames.fill_(9)
    assert not bank.frames.requires_grad
    assert bank.frames[0, 0].eq(1).all()
    assert not bank.sample(1, batch=1)[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_frames_keep_their_dtype(dtype):
    bank = PatchBank(2, classes=[1], min_pixels=1)
    bank.update(_clip(_row(1, 1), dtype=dtype))
    assert bank.sample(1, batch=1)[0].dtype == dtype


def test_state_goes_into_a_fresh_bank(tmp_path):
    def new():
        return PatchBank(3, classes=[1, 2], capacity=2, min_pixels=1)

    bank = new()
    for seed in range(3):
        bank.update(_numbered(torch.randint(0, 3, (2, 1, 4, 5), generator=_rng(seed)), seed))
    torch.save(bank.state_dict(), tmp_path / "bank.pt")
    other = new()
    other.load_state_dict(torch.load(tmp_path / "bank.pt"))
    for mine, its in zip(bank.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, its)
    clip = _numbered(torch.randint(0, 3, (2, 1, 4, 5), generator=_rng(9)), 9)
    for one in (bank, other):
        one.update(clip)
    for mine, its in zip(*(b.sample(1, batch=6, generator=_rng(1)) for b in (bank, other)), strict=True):
        assert torch.equal(mine, its)


def test_a_checkpoint_of_another_size_of_pictures_makes_room():
    small, large = (PatchBank(2, classes=[1], min_pixels=1) for _ in range(2))
    small.update(_clip(_row(1, 1)))
    large.update(_clip(torch.ones(1, 1, 4, 6, dtype=torch.long)))
    small.load_state_dict(large.state_dict())
    assert small.sample(1, batch=1)[1].shape == (1, 4, 6)


def test_the_state_of_a_bank_that_saw_nothing_empties_another():
    bank = PatchBank(2, classes=[1], min_pixels=1)
    bank.update(_clip(_row(1, 1)))
    bank.load_state_dict(PatchBank(2, classes=[1], min_pixels=1).state_dict())
    assert not bank.has_seen
    assert bank.written.tolist() == [0]
    bank.update(_clip(_row(1, 1, 1)))  # any size again


@pytest.mark.parametrize("filled", [False, True])
def test_a_checkpoint_of_another_capacity_is_refused(filled):
    saved, bank = PatchBank(2, classes=[1], capacity=2, min_pixels=1), PatchBank(2, classes=[1], min_pixels=1)
    saved.update(_clip(_row(1, 1)))
    if filled:
        bank.update(_clip(_row(1, 1)))
    message = "PatchBank: `capacity` must be the checkpoint's, 2; got 4."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bank.load_state_dict(saved.state_dict())


def test_a_prefix_is_respected():
    inner, outer = (
        torch.nn.ModuleDict({"a": PatchBank(2, classes=[1], min_pixels=1), "b": PatchBank(2, classes=[0])})
        for _ in range(2)
    )
    inner["a"].update(_clip(_row(1, 1)))
    outer.load_state_dict(inner.state_dict())
    assert outer["a"].has_seen
    assert not outer["b"].has_seen
    smaller = torch.nn.ModuleDict({"a": PatchBank(2, classes=[1], capacity=2), "b": PatchBank(2, classes=[0])})
    with pytest.raises(ValueError, match=r"`capacity` must be the checkpoint's, 4; got 2\.$"):
        smaller.load_state_dict(inner.state_dict())


def test_extra_repr_shows_the_arguments():
    bank = PatchBank(9, classes=(2, 3), capacity=5, min_pixels=7, sync=False, ignore_index=-1)
    assert bank.extra_repr() == "num_classes=9, classes=[2, 3], capacity=5, min_pixels=7, sync=False, ignore_index=-1"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"capacity": 0}, "PatchBank: `capacity` must be at least 1; got 0."),
        ({"min_pixels": 0}, "PatchBank: `min_pixels` must be at least 1; got 0."),
        ({"classes": []}, "PatchBank: `classes` must name at least one class; got []."),
        ({"classes": [0, 1], "ignore_index": 0}, "PatchBank: `classes` must not hold `ignore_index`, 0; got [0, 1]."),
        ({"classes": [0, 3]}, "PatchBank: `classes` must be labels in [0, K=3); got [0, 3]."),
        ({"classes": [-1]}, "PatchBank: `classes` must be labels in [0, K=3); got [-1]."),
    ],
)
def test_arguments_out_of_range(kwargs, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        PatchBank(**({"num_classes": 3, "classes": [1]} | kwargs))


def test_clips_that_do_not_fit():
    bank = PatchBank(3, classes=[1], min_pixels=1)
    with pytest.raises(ValueError, match=r"^PatchBank\.update: `clip\.labels` must be given; got None\.$"):
        bank.update(Clip(torch.zeros(1, 1, 3, 2, 2)))
    with pytest.raises(TypeError, match=r"^PatchBank\.update: `clip` must be a dastc\.Clip; got Tensor\.$"):
        bank.update(torch.zeros(1))
    message = "PatchBank.sample: `update` must come first; the bank has seen no clip."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bank.sample(1, batch=1)
    bank.update(_clip(torch.ones(1, 1, 2, 3, dtype=torch.long)))
    message = "PatchBank.update: `clip.labels` must have shape (B=1, H=2, W=3); got (1, 4, 3)."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bank.update(_clip(torch.ones(1, 1, 4, 3, dtype=torch.long)))
