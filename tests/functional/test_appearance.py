import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc.functional import match_histograms
from dastc.functional.appearance import hide_blocks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.lists(st.integers(2, 9), min_size=4, max_size=4, unique=True)  # H, W, H', W'


def _clip(seed, b, t, h, w, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(b, t, 3, h, w, generator=rng, dtype=torch.float64).to(DEVICE, dtype)


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    frames = torch.tensor([[3.0, 1.0, 2.0], [9.0, 8.0, 7.0], [5.0, 6.0, 5.0]], device=DEVICE).view(1, 1, 3, 1, 3)
    reference = torch.tensor([[30.0, 20.0, 10.0], [0.0, 0.0, 1.0], [1.0, 2.0, 3.0]], device=DEVICE).view(1, 1, 3, 3, 1)
    want = [[[30, 10, 20]], [[1, 0, 0]], [[1, 3, 2]]]  # equal values keep their order
    assert match_histograms(frames, reference)[0, 0].tolist() == want


def test_known_values_from_a_larger_and_a_smaller_picture():
    frames = torch.tensor([3.0, 1.0, 2.0], device=DEVICE).expand(1, 1, 3, 1, 3)
    larger = torch.arange(5.0, device=DEVICE).expand(1, 1, 3, 1, 5)
    smaller = torch.tensor([10.0, 20.0], device=DEVICE).expand(1, 1, 3, 1, 2)
    assert match_histograms(frames, larger)[0, 0, 0].tolist() == [[4, 0, 2]]
    assert match_histograms(larger[..., 1:], smaller)[0, 0, 0].tolist() == [[10, 10, 20, 20]]


@given(SEEDS, st.integers(2, 9), st.integers(2, 9))
def test_pictures_of_one_size_swap_their_values_and_keep_their_order(seed, h, w):
    frames, reference = _clip(seed, 2, 3, h, w), _clip(seed + 1, 2, 2, w, h)
    out = match_histograms(frames, reference)
    assert torch.equal(out.flatten(3).argsort(-1), frames.flatten(3).argsort(-1))
    values = reference[:, -1:].flatten(3).sort(-1).values
    assert torch.equal(out.flatten(3).sort(-1).values, values.expand(-1, 3, -1, -1))


@given(SEEDS, SIZES)
def test_every_rank_goes_to_the_nearest_rank(seed, sizes):
    h, w, height, width = sizes
    frames = _clip(seed, 2, 3, h, w)
    # a reference whose values are their own ranks
    order = torch.randperm(height * width, generator=torch.Generator().manual_seed(seed)).to(DEVICE, torch.float64)
    reference = order.view(1, 1, 1, height, width).expand(2, 2, 3, -1, -1)
    rank = match_histograms(frames, reference).flatten(3)
    own = frames.flatten(3).argsort(-1).argsort(-1)
    exact = own * (height * width - 1) / (h * w - 1)
    assert ((rank - exact).abs() <= 0.5).all()


@given(SEEDS)
def test_only_the_last_frame_of_the_same_sample_is_read(seed):
    frames, reference = _clip(seed, 2, 3, 4, 5), _clip(seed + 1, 2, 3, 6, 7)
    out = match_histograms(frames, reference)
    assert torch.equal(match_histograms(frames, reference[:, -1:]), out)
    other = reference.clone()
    other[:, :-1] = 0
    assert torch.equal(match_histograms(frames, other), out)
    for i in range(2):
        assert torch.equal(match_histograms(frames[i : i + 1], reference[i : i + 1]), out[i : i + 1])


@given(SEEDS)
def test_matching_to_itself_or_twice_changes_nothing(seed):
    frames, reference = _clip(seed, 2, 1, 4, 5), _clip(seed + 1, 2, 1, 6, 7)
    assert torch.equal(match_histograms(frames, frames), frames)
    once = match_histograms(frames, reference)
    assert torch.equal(match_histograms(once, reference), once)


@given(SEEDS)
def test_only_the_order_of_the_frames_matters(seed):
    frames, reference = _clip(seed, 2, 3, 4, 5), _clip(seed + 1, 2, 1, 6, 7)
    assert torch.equal(match_histograms(frames.exp() * 3 - 1, reference), match_histograms(frames, reference))


GRIDS = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(SEEDS, SIZES, GRIDS)
def test_windows_are_matched_each_by_itself_and_fade_into_each_other(seed, sizes, grid):
    h, w, height, width = sizes
    frames, reference = _clip(seed, 2, 2, h, w), _clip(seed + 1, 2, 1, height, width)
    rows, columns = min(grid[0], h, height), min(grid[1], w, width)
    want = torch.zeros_like(frames)
    for i in range(rows):
        for j in range(columns):
            shares = [_fade(size, cells, k) for size, cells, k in ((h, rows, i), (w, columns, j))]
            there = [_fade(size, cells, k) for size, cells, k in ((height, rows, i), (width, columns, j))]
            (y, x), (y_of, x_of) = ([fade.nonzero().flatten() for fade in fades] for fades in (shares, there))
            window = match_histograms(frames[..., y, :][..., x], reference[..., y_of, :][..., x_of])
            share = shares[0].unsqueeze(1) * shares[1]
            placed = torch.zeros_like(frames)
            placed[..., int(y[0]) : int(y[-1]) + 1, int(x[0]) : int(x[-1]) + 1] = window
            want += share * placed
    assert torch.allclose(match_histograms(frames, reference, grid=grid), want, atol=1e-9)


def _fade(size, cells, index):
    """From 1 in the middle of a window to 0 in that of the next; exact in where it is 0."""
    away = [abs(i * (cells - 1) - index * (size - 1)) for i in range(size)]
    shares = [1.0 if cells == 1 else max(0, size - 1 - far) / (size - 1) for far in away]
    return torch.tensor(shares, dtype=torch.float64, device=DEVICE)


@given(SEEDS, SIZES, GRIDS)
def test_a_grid_keeps_what_is_alike_and_a_reference_of_one_value(seed, sizes, grid):
    h, w, height, width = sizes
    frames = _clip(seed, 2, 2, h, w)
    assert torch.allclose(match_histograms(frames[:, :1], frames[:, :1], grid=grid), frames[:, :1])
    flat = torch.full((2, 1, 3, height, width), 2.5, device=DEVICE, dtype=torch.float64)
    assert torch.allclose(match_histograms(frames, flat, grid=grid), torch.full_like(frames, 2.5))


def test_what_lies_beyond_the_next_window_does_not_matter():
    frames, reference = _clip(0, 1, 1, 9, 9), _clip(1, 1, 1, 9, 9)
    other = reference.clone()
    other[..., 4:, :] = 7
    out, changed = (match_histograms(frames, one, grid=(3, 1)) for one in (reference, other))
    assert torch.equal(out[..., 0, :], changed[..., 0, :])
    assert not torch.equal(out[..., 1, :], changed[..., 1, :])


@pytest.mark.parametrize("grid", [(1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_layout_and_gradient_with_a_grid(dtype, grid):
    frames, reference = _clip(0, 2, 3, 6, 5, dtype).requires_grad_(), _clip(1, 2, 1, 6, 5, dtype)
    out = match_histograms(frames, reference, grid=grid)
    assert out.dtype == dtype
    assert not out.requires_grad
    exact = match_histograms(frames.double(), reference.double(), grid=grid)
    assert torch.allclose(out.double(), exact, rtol=0, atol=4 * torch.finfo(dtype).eps)
    channels_last = frames.detach().permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert torch.equal(match_histograms(channels_last, reference, grid=grid), out)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_and_gradient(dtype):
    frames, reference = _clip(0, 2, 3, 4, 5, dtype).requires_grad_(), _clip(1, 2, 1, 4, 5).requires_grad_()
    out = match_histograms(frames, reference)
    assert out.dtype == dtype
    assert not out.requires_grad
    assert torch.equal(out[0, 0, 0].flatten().sort().values, reference[0, 0, 0].flatten().sort().values.to(dtype))


def test_compiles_without_a_graph_break():
    compiled = torch.compile(match_histograms, fullgraph=True, backend="eager")
    frames, reference = _clip(0, 2, 3, 4, 5), _clip(1, 2, 1, 6, 7)
    for grid in ((1, 1), (2, 1)):
        assert torch.equal(compiled(frames, reference, grid=grid), match_histograms(frames, reference, grid=grid))


def test_an_empty_batch_and_one_pixel():
    frames, reference = _clip(0, 2, 3, 4, 5), _clip(1, 2, 1, 1, 1)
    for grid in ((1, 1), (3, 2)):
        assert match_histograms(_clip(0, 0, 3, 4, 5), _clip(1, 0, 1, 6, 7), grid=grid).shape == (0, 3, 3, 4, 5)
        assert torch.equal(match_histograms(frames, reference, grid=grid), reference.expand_as(frames))


_F = torch.zeros(2, 1, 3, 4, 5)


@pytest.mark.parametrize(
    ("frames", "reference", "kind", "text"),
    [
        (_F[0], _F, ValueError, "`frames` must have shape (B, T, C, H, W); got (1, 3, 4, 5)."),
        (_F, _F[:1], ValueError, "`reference` must have shape (B=2, T', C=3, H', W'); got (1, 1, 3, 4, 5)."),
        (_F, _F[:, :, :2], ValueError, "`reference` must have shape (B=2, T', C=3, H', W'); got (2, 1, 2, 4, 5)."),
        (_F[:, :, :2], _F, ValueError, "`reference` must have shape (B=2, T', C=2, H', W'); got (2, 1, 3, 4, 5)."),
        (_F.long(), _F, TypeError, "`frames` must be of dtype float; got torch.int64."),
        (_F, _F.byte(), TypeError, "`reference` must be of dtype float; got torch.uint8."),
    ],
)
def test_errors(frames, reference, kind, text):
    with _raises(kind, f"match_histograms: {text}"):
        match_histograms(frames, reference)


@pytest.mark.parametrize("grid", [(0, 1), (3,), 3, (1.5, 1)])
def test_a_bad_grid_is_named(grid):
    text = f"`grid` must be (rows, columns), two whole numbers of at least 1; got {grid}."
    with _raises(ValueError, f"match_histograms: {text}"):
        match_histograms(_F, _F, grid=grid)


@given(SEEDS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.floats(0, 1))
def test_whole_blocks_are_hidden_in_all_frames_and_the_rest_is_untouched(seed, height, width, block, share):
    frames = 1 + torch.rand(2, 3, 3, height, width, generator=torch.Generator().manual_seed(seed))
    out = hide_blocks(frames, share, block=block, generator=torch.Generator().manual_seed(seed))
    hidden = out == 0
    assert torch.equal(out[~hidden], frames[~hidden])
    assert torch.equal(hidden, hidden[:, :1, :1].expand_as(hidden))
    for y in range(0, height, block):
        for x in range(0, width, block):
            inside = hidden[:, 0, 0, y : y + block, x : x + block].flatten(1)
            assert (inside == inside[:, :1]).all()


def test_the_share_of_hidden_blocks_is_that_asked_for():
    frames = torch.ones(4, 1, 3, 50, 50)
    for share in (0.0, 0.3, 1.0):
        hidden = hide_blocks(frames, share, block=1, generator=torch.Generator().manual_seed(0)) == 0
        assert float(hidden.float().mean()) == pytest.approx(share, abs=0.03)
    blocks = hide_blocks(frames, 0.5, block=50, generator=torch.Generator().manual_seed(1)).flatten(1).sum(1)
    assert len(blocks.unique()) == 2  # each sample draws its own


@pytest.mark.parametrize("grid", [(1, 1), (2, 3)])
def test_each_of_any_number_of_channels_is_matched_by_itself(grid):
    rng = torch.Generator().manual_seed(0)
    frames, reference = (torch.randn(2, 2, 5, *size, generator=rng) for size in ((6, 7), (9, 8)))
    out = match_histograms(frames, reference, grid=grid)
    for channel in range(5):
        alone = (x[:, :, channel : channel + 1] for x in (frames, reference))
        assert torch.equal(out[:, :, channel : channel + 1], match_histograms(*alone, grid=grid))


@pytest.mark.parametrize("channels", [1, 5])
def test_every_channel_of_a_block_is_hidden(channels):
    frames = torch.ones(2, 3, channels, 8, 8)
    hidden = hide_blocks(frames, 0.5, block=2, generator=torch.Generator().manual_seed(0)) == 0
    assert 0 < hidden.float().mean() < 1
    assert torch.equal(hidden, hidden[:, :, :1].expand_as(hidden))


def test_bad_arguments_of_hiding_are_named():
    frames = torch.ones(1, 1, 3, 4, 4)
    with pytest.raises(
        ValueError, match=r"hide_blocks: `frames` must have shape \(B, T, C, H, W\); got \(1, 3, 4, 4\)"
    ):
        hide_blocks(frames[0], 0.5, block=2)
    with pytest.raises(ValueError, match=r"hide_blocks: `share` must lie in \[0, 1\]; got 1.5"):
        hide_blocks(frames, 1.5, block=2)
    with pytest.raises(ValueError, match="hide_blocks: `block` must be at least 1; got 0"):
        hide_blocks(frames, 0.5, block=0)
