import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.adapt import ClassPrior

K = 4


def shares(values):
    return torch.tensor(values, dtype=torch.float32) / sum(values)


def labels_of(counts):
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def logits_of(share):
    """Say every pixel with the same probabilities."""
    return share.log().view(1, 1, -1, 1, 1).expand(2, 1, -1, 3, 5).clone()


def test_what_is_said_too_often_is_said_as_often_as_shown():
    prior, shown, said = ClassPrior(K), [10, 20, 30, 40], shares([40, 30, 20, 10])
    prior.see(labels_of(shown))
    mean = prior(logits_of(said)).softmax(dim=2).mean(dim=(0, 1, 3, 4))
    torch.testing.assert_close(mean, shares(shown), atol=5e-3, rtol=0)  # the floor's share


@given(strength=st.floats(0, 1), seed=st.integers(0, 2**31 - 1))
def test_strength_is_the_exponent_of_the_ratio(strength, seed):
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, K, 3, 3, generator=rng)
    full, some = ClassPrior(K), ClassPrior(K, strength=strength)
    for prior in (full, some):
        prior.see(torch.randint(0, K, (50,), generator=torch.Generator().manual_seed(seed)))
    torch.testing.assert_close(some(logits) - logits, strength * (full(logits) - logits), atol=1e-5, rtol=1e-5)


def test_classes_said_as_often_as_shown_are_left_alone():
    prior = ClassPrior(K)
    prior.see(labels_of([10, 20, 30, 40]))
    logits = logits_of(shares([10, 20, 30, 40]))
    torch.testing.assert_close(prior(logits), logits, atol=1e-6, rtol=0)


def test_the_past_fades():
    prior = ClassPrior(2, decay=0.5)
    prior.see(torch.tensor([0]))
    prior.see(torch.tensor([1, 1, 1]))  # a batch counts by its shares, not by its size
    torch.testing.assert_close(prior.shown.flatten() / prior.shown.sum(), torch.tensor([1 / 3, 2 / 3]))


@pytest.mark.parametrize("ignore_index", [255, -1, 1])
def test_what_takes_no_part_is_not_counted(ignore_index):
    prior = ClassPrior(2, ignore_index=ignore_index)
    prior.see(torch.tensor([[0, 0, ignore_index, -7, 99]]))
    assert prior.shown.flatten().tolist() == [1, 0]


@pytest.mark.parametrize("labels", [torch.full((3,), 255), torch.zeros(0, dtype=torch.long)], ids=["ignored", "empty"])
def test_a_source_that_shows_nothing_gives_finite_logits(labels):
    prior = ClassPrior(K)
    prior.see(labels)
    assert prior(torch.randn(1, 1, K, 2, 2)).isfinite().all()
    assert ClassPrior(K)(torch.randn(0, 1, K, 2, 2)).shape == (0, 1, K, 2, 2)


def test_a_class_that_is_never_shown_is_held_back_but_not_forbidden():
    prior = ClassPrior(2)
    prior.see(torch.zeros(9, dtype=torch.long))
    shift = prior(torch.zeros(1, 1, 2, 1, 1)).flatten()
    assert -10 < shift[1] - shift[0] < -1


def test_a_broken_frame_does_not_spoil_what_comes_after():
    broken = ClassPrior(K)
    broken(torch.full((1, 1, K, 2, 2), float("nan")))
    broken(logits_of(shares([4, 3, 2, 1])))
    assert broken.said.isfinite().all()
    torch.testing.assert_close(broken.said.flatten(), shares([4, 3, 2, 1]))


def banded(rows, width=60):
    """Return labels (len(rows), width) whose rows hold the classes in the numbers given."""
    return torch.stack([labels_of(counts) for counts in rows]).view(len(rows), width)


def test_each_row_of_cells_is_said_as_the_source_shows_it():
    shown = [[30, 20, 10, 0], [30, 20, 10, 0], [0, 10, 20, 30], [0, 20, 20, 20]]  # two rows for each of two cells
    prior = ClassPrior(K, grid=(2, 1))
    prior.see(banded(shown).expand(3, 1, 4, 60))
    torch.testing.assert_close(prior.shown[:, 0, 0], shares([60, 40, 20, 0]))
    torch.testing.assert_close(prior.shown[:, 1, 0], shares([0, 30, 40, 50]))
    logits = torch.cat((logits_of(shares([1, 2, 3, 4]))[:, :, :, :1], logits_of(shares([4, 3, 2, 1]))[:, :, :, :1]), 3)
    found = prior(logits).softmax(dim=2)
    torch.testing.assert_close(found[0, 0, :, 0, 0], shares([60, 40, 20, 0]), atol=5e-3, rtol=0)
    torch.testing.assert_close(found[0, 0, :, 1, 0], shares([0, 30, 40, 50]), atol=5e-3, rtol=0)


def test_each_cell_is_said_as_the_source_shows_it():
    prior = ClassPrior(2, grid=(2, 2))
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[:, 0, :2], labels[:, 2:, 2:] = 1, 1  # half of the upper left cell, and the lower right one
    prior.see(labels)
    torch.testing.assert_close(prior.shown[1], torch.tensor([[0.5, 0.0], [0.0, 1.0]]))
    found = prior(torch.zeros(1, 1, 2, 2, 2)).softmax(dim=2)[0, 0, 1]
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.0], [0.0, 1.0]]), atol=5e-3, rtol=0)


@pytest.mark.parametrize("grid", [(8, 1), (1, 5), (3, 4)])
def test_a_picture_that_is_alike_everywhere_needs_no_cells(grid):
    whole, cells = ClassPrior(K), ClassPrior(K, grid=grid)
    labels = labels_of([1, 2, 3, 4]).view(1, 1, 1, -1).expand(1, 40, 40, -1).movedim(-1, 0)  # a picture of each label
    logits = shares([4, 3, 2, 1]).log().view(1, 1, K, 1, 1).expand(1, 1, K, 12, 20)
    for prior in (whole, cells):
        prior.see(labels)
    torch.testing.assert_close(cells(logits), whole(logits))


def test_between_the_middles_of_cells_the_shift_runs_evenly():
    prior = ClassPrior(2, grid=(2, 1))
    prior.see(banded([[15, 45], [45, 15]]))
    shift = prior(torch.zeros(1, 1, 2, 8, 1))[0, 0, 0, :, 0]
    step = shift.diff()
    torch.testing.assert_close(shift[[0, 7]], torch.tensor([0.25, 0.75]).div(0.5).log(), atol=5e-3, rtol=0)
    # the middles lie between rows 1 and 2, and between 5 and 6: flat before the first and after the last
    torch.testing.assert_close(step / step[3], torch.tensor([0, 0.5, 1, 1, 1, 0.5, 0]))
    assert step[3] > 0.2


@pytest.mark.parametrize("height", [1, 2, 3, 50])
def test_more_cells_than_rows_say_nothing_of_what_they_do_not_hold(height):
    prior = ClassPrior(2, grid=(7, 1))
    prior.see(torch.zeros(1, 1, 14, 5, dtype=torch.long))
    logits = torch.randn(1, 1, 2, height, 5)
    shift = (prior(logits) - logits)[0, 0, 0, :, 0]
    assert shift.isfinite().all()
    assert (shift >= -1e-5).all()  # class 0 is all that is ever shown
    assert shift.max() < 1.5


def test_cells_of_which_nothing_is_known_are_left_alone():
    prior, logits = ClassPrior(2, grid=(2, 1)).eval(), torch.randn(1, 1, 2, 2, 3)
    assert torch.equal(prior(logits), logits)
    prior.train().see(torch.tensor([[255, 255], [0, 1]]))
    assert torch.equal(prior(logits)[..., 0, :], logits[..., 0, :])
    with pytest.raises(ValueError, match=r"ClassPrior\.see: `labels` must have shape \(\.\.\., H, W\); got \(3,\)"):
        prior.see(torch.zeros(3, dtype=torch.long))


def seen_by_hand(share, factor, down):
    """Look at shares (cells,) of one axis ``factor`` times larger about the middle, and ``down`` lower."""
    middles = (np.arange(len(share)) + 0.5) / len(share) - 0.5
    return np.interp((middles - down) / factor, middles, share)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=9), st.floats(1, 3), st.floats(0, 0.4), st.booleans())
def test_the_views_that_fit_what_is_said_are_what_is_expected(share, zoom, shift, upright):
    axis = (len(share), 1) if upright else (1, len(share))
    prior = ClassPrior(2, grid=axis, zoom=zoom, shift=shift)
    prior.shown = torch.tensor([[1 - one for one in share], share]).view(2, *axis)
    prior.said = torch.full((2, *axis), 0.5)
    prior.eval()
    logits = torch.randn(1, 3, 2, *axis)
    views = np.stack([
        seen_by_hand(share, zoom**power, shift * down * upright)
        for power in ((-1, -0.5, 0, 0.5, 1) if zoom > 1 else (0,))
        for down in np.linspace(-1, 1, 2 * math.ceil(round(shift / 0.05, 6)) + 1)  # -1 alone if nothing shifts
    ])  # fmt: skip
    first = np.log(np.stack((1 - views.mean(0), views.mean(0))) + 1e-3) - np.log(0.501)
    told = (logits + torch.from_numpy(first).float().view(2, *axis)).softmax(2).mean(1).view(2, -1).numpy()
    fit = 30 / len(share) * (told[0] * np.log(1 - views + 1e-3) + told[1] * np.log(views + 1e-3)).sum(1)
    weight = np.exp(fit - fit.max()) / np.exp(fit - fit.max()).sum()
    expected = np.log(np.stack((1 - weight @ views, weight @ views)) + 1e-3) - np.log(0.501)
    found = (prior(logits) - logits)[0].view(3, 2, -1)
    torch.testing.assert_close(found, torch.from_numpy(expected).float().expand(3, -1, -1), atol=2e-3, rtol=1e-3)


def test_with_views_a_class_may_be_said_beside_where_it_is_shown():
    labels = torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 3:5, 3:5] = 1
    shift = []
    for views in ({}, {"zoom": 2.0}, {"shift": 0.1}):
        prior = ClassPrior(2, grid=(8, 8), **views)
        prior.see(labels)
        shift.append(prior(torch.zeros(1, 1, 2, 8, 8))[0, 0, 1])
    assert (shift[1][[2, 3], [2, 2]] > shift[0][[2, 3], [2, 2]] + 2).all()  # above and beside: a factor of 7 at least
    assert shift[2][2, 3] > shift[0][2, 3] + 2  # above
    torch.testing.assert_close(shift[2][3, 2], shift[0][3, 2])  # beside: nothing is shifted there
    torch.testing.assert_close(shift[1][0], shift[0][0])  # too far away for any view


def test_each_clip_is_held_against_the_views_that_fit_it():
    prior = ClassPrior(2, grid=(8, 1), shift=0.25)
    prior.see(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).view(1, 8, 1))  # above 0, below 1
    high, low = (torch.tensor([1.0] * rows + [-1.0] * (8 - rows)).view(1, 8, 1) for rows in (2, 6))
    clips = torch.stack([3 * torch.stack((one, -one), dim=1).expand(2, 2, 8, 1) for one in (high, low)])
    clips[:, :, :, [3, 4]] = 0  # undecided in the middle
    found = prior(clips)[:, :, 1] - prior(clips)[:, :, 0]
    assert (found[0, :, [3, 4]] > 1).all()  # the border is high up: the middle lies below it
    assert (found[1, :, [3, 4]] < -1).all()
    torch.testing.assert_close(found[:, 0], found[:, 1])  # frames of a clip share the view


def test_a_broken_frame_spoils_no_other_through_the_views():
    prior = ClassPrior(2, grid=(4, 4), zoom=1.5, shift=0.1)
    prior.see(torch.randint(0, 2, (2, 8, 8)))
    logits = torch.randn(2, 2, 2, 8, 8)
    logits[0, 0, :, 0, 0] = float("nan")
    found = prior(logits)
    assert found[0, 0, :, 0, 0].isnan().all()
    assert found.isnan().sum() == 2


@pytest.mark.parametrize("grid", [(1, 1), (8, 1), (3, 4)])
def test_a_picture_that_is_alike_everywhere_is_so_in_any_view(grid):
    labels = labels_of([1, 2, 3, 4]).view(1, 1, 1, -1).expand(1, 40, 40, -1).movedim(-1, 0)
    logits = torch.randn(1, 1, K, 12, 20)
    one, many = ClassPrior(K, grid=grid), ClassPrior(K, grid=grid, zoom=2.0, shift=0.2)
    for prior in (one, many):
        prior.see(labels)
    torch.testing.assert_close(many(logits), one(logits))


def test_views_take_nothing_from_cells_of_which_nothing_is_known():
    prior = ClassPrior(2, grid=(4, 1), zoom=2.0)
    prior.see(torch.tensor([[255], [255], [0], [1]]).expand(4, 6))
    shift = prior(torch.zeros(1, 1, 2, 4, 1))[0, 0, :, :, 0]
    assert torch.equal(shift[:, :2], torch.zeros(2, 2))
    assert shift[0, 2] > shift[1, 2]
    torch.testing.assert_close(shift[:, 2:].exp().sum(dim=0), torch.full((2,), 2.0), atol=0.01, rtol=0)  # shares again


@pytest.mark.parametrize("clips", [0, 1, 3])
def test_any_number_of_clips_may_be_shifted(clips):
    prior = ClassPrior(K, grid=(2, 3), zoom=1.5, shift=0.1)
    prior.see(torch.randint(0, K, (2, 6, 6)))
    assert prior(torch.randn(clips, 2, K, 5, 7)).shape == (clips, 2, K, 5, 7)


def test_in_evaluation_mode_nothing_is_counted():
    prior = ClassPrior(K).eval()
    before = copy.deepcopy(prior.state_dict())
    prior(torch.randn(1, 1, K, 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in prior.state_dict().items())


def test_bf16_stays_bf16_and_is_counted_in_float32():
    half, full = ClassPrior(K), ClassPrior(K)
    logits = torch.randn(1, 1, K, 20, 20, dtype=torch.bfloat16)
    assert half(logits).dtype == torch.bfloat16
    full(logits.float())
    assert torch.equal(half.said, full.said)


def test_autocast_changes_no_share():
    prior, exact = (ClassPrior(3, grid=(2, 2), zoom=1.5, shift=0.1) for _ in range(2))
    labels, logits = torch.arange(64).view(1, 1, 8, 8) % 3, 9 * torch.randn(2, 1, 3, 8, 8)
    for each in (prior, exact):
        each.see(labels)
    with torch.autocast("cpu", torch.bfloat16):
        shifted = prior(logits)
    assert torch.equal(shifted, exact(logits))
    assert torch.equal(prior.said, exact.said)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 0}, "ClassPrior: `num_classes` must be at least 1; got 0"),
        ({"num_classes": 2, "strength": 1.5}, r"ClassPrior: `strength` must lie in \[0, 1\]; got 1.5"),
        ({"num_classes": 2, "grid": (0, 3)}, r"ClassPrior: `grid` must be \(rows, columns\), .*; got \(0, 3\)"),
        ({"num_classes": 2, "grid": (3,)}, r"ClassPrior: `grid` must be \(rows, columns\), .*; got \(3,\)"),
        ({"num_classes": 2, "grid": (2, 1.5)}, r"ClassPrior: `grid` must be \(rows, columns\), .*; got \(2, 1\.5\)"),
        ({"num_classes": 2, "zoom": 0.5}, r"ClassPrior: `zoom` and `shift` must be a zoom of .*; got \(0\.5, 0\.0\)"),
        ({"num_classes": 2, "zoom": float("inf")}, r"`zoom` and `shift` must be .*; got \(inf, 0\.0\)"),
        (
            {"num_classes": 2, "shift": 1.0},
            r"`zoom` and `shift` must be .* in \[0, 1\), finite both; got \(1\.0, 1\.0\)",
        ),
        ({"num_classes": 2, "decay": 1.0}, r"ClassPrior: `decay` must lie in \[0, 1\); got 1.0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassPrior(**arguments)


def test_bad_tensors_are_named():
    with pytest.raises(
        ValueError, match=r"ClassPrior: `logits` must have shape \(B, T, K=4, h, w\); got \(1, 4, 2, 2\)"
    ):
        ClassPrior(K)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(TypeError, match=r"ClassPrior\.see: `labels` must be of dtype int64; got torch.int32"):
        ClassPrior(K).see(torch.zeros(3, dtype=torch.int32))


def test_repr_shows_the_arguments():
    shown = "num_classes=3, strength=0.5, decay=0.9, grid=(2, 4), zoom=2.0, shift=0.1, sync=False, ignore_index=0"
    given = {"strength": 0.5, "decay": 0.9, "grid": (2, 4), "zoom": 2.0, "shift": 0.1, "sync": False, "ignore_index": 0}
    assert ClassPrior(3, **given).extra_repr() == shown
