import math
import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dastc import debug_checks
from dastc.functional import flow_warp, pseudo_labels
from dastc.ops import _bands
from dastc.ops.pseudo_label import reference
from dastc.ops.pseudo_label.op import pseudo_label_op
from dastc.ops.pseudo_label.reference import pseudo_label_reference

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
# N, K, h, w, H, W: pairwise different, the labels finer or coarser than the logits
SIZES = st.lists(st.integers(1, 12), min_size=6, max_size=6, unique=True)
BANDS = st.sampled_from([1, 60, 200, 2**19])  # elements in a band: a row each, a few rows, all
WINDOWS = [-1, 6, 10**9]  # neighbours recomputed everywhere, where the flow reaches far, nowhere
FORMS = ["own", "flow", "both"]


def _case(seed, sizes, dtype=torch.float64, reach=3.0):
    n, k, h, w, height, width = sizes
    rng = torch.Generator().manual_seed(seed)
    logits, previous = torch.randn(2, n, k, h, w, generator=rng, dtype=torch.float64) * 3
    flow = torch.randn(n, 2, height, width, generator=rng, dtype=torch.float64) * reach
    return logits.to(DEVICE, dtype), flow.to(DEVICE, dtype), previous.to(DEVICE, dtype)


def _arguments(form, flow, previous):
    return {"own": {}, "flow": {"flow": flow}, "both": {"flow": flow, "previous": previous}}[form]


def _plain(logits, size, flow=None, previous=None):
    """Upsample, soft-max and warp the whole map, then take the maximum."""
    earlier = logits if previous is None else previous
    own, before = (
        F.interpolate(x, size=size, mode="bilinear", align_corners=False).softmax(1) for x in (logits, earlier)
    )
    if flow is None:
        return own
    warped, valid = flow_warp(before, flow)
    valid = valid.unsqueeze(1)
    return warped * valid if previous is None else torch.where(valid, (warped + own) / 2, own)


def _check(found, probability, tolerance=1e-9):
    confidence, labels = probability.max(1)
    torch.testing.assert_close(found.confidence, confidence, rtol=0, atol=tolerance)
    own = F.one_hot(labels, probability.shape[1]).bool().movedim(-1, 1)
    second = probability.masked_fill(own, -1).amax(1)  # where two classes are equal within rounding, either will do
    clear = (confidence - second > 2 * tolerance) | (confidence == 0)
    assert torch.equal(found.labels[clear], labels[clear])
    assert found.labels.dtype == torch.int64


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def _log_odds(*shares):
    return torch.tensor(shares, dtype=torch.float64, device=DEVICE).log().view(1, -1, 1, 1)


def test_known_values_of_one_frame():
    # two columns of logits, four of labels, which lie at -1/4 (clamped), 1/4, 3/4 and 5/4 (clamped) of the first two
    logits = torch.tensor([[0.0, 4.0], [0.0, 0.0]], dtype=torch.float64, device=DEVICE).view(1, 2, 1, 2)
    found = pseudo_labels(logits, (1, 4))
    want = [1 / (1 + math.exp(-x)) for x in (0, 1, 3, 4)]
    assert found.confidence.flatten().tolist() == pytest.approx(want)
    assert found.labels.flatten().tolist() == [0, 0, 0, 0]
    assert pseudo_labels(-logits, (1, 4)).labels.flatten().tolist()[1:] == [1, 1, 1]


def test_known_values_along_the_flow():
    # three columns: class 0, 1, 2, each surer than the one before; the later frame saw them one column to the left
    logits = torch.cat([_log_odds(0.5, 0.2, 0.3), _log_odds(0.2, 0.6, 0.2), _log_odds(0.2, 0.1, 0.7)], dim=-1)
    flow = torch.zeros(1, 2, 1, 3, dtype=torch.float64, device=DEVICE)
    flow[:, 0] = 1
    found = pseudo_labels(logits, (1, 3), flow=flow)
    assert found.labels.flatten().tolist() == [1, 2, 0]  # the last has left the picture
    assert found.confidence.flatten().tolist() == pytest.approx([0.6, 0.7, 0.0])


def test_known_values_of_both_frames():
    own = torch.cat([_log_odds(0.8, 0.2), _log_odds(0.4, 0.6)], dim=-1)
    previous = torch.cat([_log_odds(0.9, 0.1), _log_odds(0.1, 0.9)], dim=-1)
    flow = torch.zeros(1, 2, 1, 2, dtype=torch.float64, device=DEVICE)
    flow[:, 0] = 1
    found = pseudo_labels(own, (1, 2), flow=flow, previous=previous)
    # the first: the mean of (0.8, 0.2) and (0.1, 0.9); the second, seen for the first time: (0.4, 0.6)
    assert found.labels.flatten().tolist() == [1, 1]
    assert found.confidence.flatten().tolist() == pytest.approx([0.55, 0.6])


def test_probabilities_are_warped_and_not_logits():
    logits = torch.cat([_log_odds(0.99, 0.01), _log_odds(0.3, 0.7)], dim=-1)
    flow = torch.zeros(1, 2, 1, 2, dtype=torch.float64, device=DEVICE)
    flow[0, 0, 0, 0] = 0.5
    found = pseudo_labels(logits, (1, 2), flow=flow)
    assert found.confidence.flatten().tolist() == pytest.approx([0.645, 0.7])


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES, band=BANDS, window=st.sampled_from(WINDOWS))
def test_equals_doing_one_step_after_the_other(form, seed, sizes, band, window):
    logits, flow, previous = _case(seed, sizes)
    arguments = _arguments(form, flow, previous)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: band)
        patch.setattr(reference, "_WINDOW", window)
        found = pseudo_labels(logits, sizes[4:], **arguments)
    _check(found, _plain(logits, sizes[4:], **arguments))


def _certainty(probability):
    """One minus the share of the largest entropy, class by class; nothing is known where there is no probability."""
    entropy = sum(torch.where(p > 0, -p * p.clamp(min=1e-300).log(), 0.0) for p in probability.unbind(1))
    k = probability.shape[1]
    return (1 - entropy / math.log(k) if k > 1 else torch.ones_like(entropy)) * (probability.sum(1) > 0)


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES, band=BANDS)
def test_entropy_is_that_of_the_probabilities_that_give_the_labels(form, seed, sizes, band):
    logits, flow, previous = _case(seed, sizes)
    arguments = _arguments(form, flow, previous)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: band)
        found = pseudo_labels(logits, sizes[4:], **arguments, confidence="entropy")
        assert torch.equal(found.labels, pseudo_labels(logits, sizes[4:], **arguments).labels)
    torch.testing.assert_close(found.confidence, _certainty(_plain(logits, sizes[4:], **arguments)), rtol=0, atol=1e-9)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_known_values_of_entropy():
    shares = [(0.25,) * 4, (1 / 2, 1 / 4, 1 / 8, 1 / 8), (1 - 3e-200, 1e-200, 1e-200, 1e-200)]
    logits = torch.cat([_log_odds(*share) for share in shares], dim=-1)
    found = pseudo_labels(logits, (1, 3), confidence="entropy")
    assert found.confidence.flatten().tolist() == pytest.approx([0, 1 - 1.75 / 2, 1], abs=1e-12)
    certain = torch.tensor([0.0, -1e4], device=DEVICE).view(1, 2, 1, 1)  # a probability of exactly 0
    assert pseudo_labels(certain, (1, 1), confidence="entropy").confidence.item() == 1


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES)
def test_a_flipped_picture_has_flipped_labels(form, seed, sizes):
    logits, flow, previous = _case(seed, sizes)
    found = pseudo_labels(logits, sizes[4:], **_arguments(form, flow, previous))
    sign = torch.tensor([-1.0, 1], dtype=flow.dtype, device=DEVICE).view(1, 2, 1, 1)
    flipped = _arguments(form, flow.flip(-1) * sign, previous.flip(-1))
    other = pseudo_labels(logits.flip(-1), sizes[4:], **flipped)
    torch.testing.assert_close(other.confidence.flip(-1), found.confidence)
    assert torch.equal(other.labels.flip(-1), found.labels)


@given(SEEDS, SIZES)
def test_zero_flow_is_no_flow(seed, sizes):
    logits, flow, _ = _case(seed, sizes)
    want = _plain(logits, sizes[4:])
    _check(pseudo_labels(logits, sizes[4:], flow=flow * 0), want)
    _check(pseudo_labels(logits, sizes[4:], flow=flow * 0, previous=logits), want)


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES)
def test_permuting_the_classes_renames_the_labels(form, seed, sizes):
    logits, flow, previous = _case(seed, sizes)
    order = torch.randperm(sizes[1], generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    found = pseudo_labels(logits, sizes[4:], **_arguments(form, flow, previous))
    other = pseudo_labels(logits[:, order], sizes[4:], **_arguments(form, flow, previous[:, order]))
    torch.testing.assert_close(other.confidence, found.confidence)
    clear = found.confidence > 0
    assert torch.equal(order[other.labels][clear], found.labels[clear])


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES)
def test_a_batch_equals_its_samples(form, seed, sizes):
    logits, flow, previous = _case(seed, sizes)
    found = pseudo_labels(logits, sizes[4:], **_arguments(form, flow, previous))
    for i in range(sizes[0]):
        one = slice(i, i + 1)
        single = pseudo_labels(logits[one], sizes[4:], **_arguments(form, flow[one], previous[one]))
        torch.testing.assert_close(found.confidence[one], single.confidence)
        assert torch.equal(found.labels[one], single.labels)


@given(SEEDS, SIZES, st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(seed, sizes, constant):
    logits, flow, previous = _case(seed, sizes)
    found = pseudo_labels(logits + constant, sizes[4:], flow=flow, previous=previous - constant)
    _check(found, _plain(logits, sizes[4:], flow, previous))


@pytest.mark.parametrize("form", FORMS)
@given(seed=SEEDS, sizes=SIZES, cells=st.tuples(st.integers(1, 9), st.integers(1, 9)), band=BANDS)
def test_noise_moves_labels_cell_by_cell_and_leaves_confidence_alone(form, seed, sizes, cells, band):
    logits, flow, previous = _case(seed, sizes)
    n, classes, (height, width) = len(logits), logits.shape[1], sizes[4:]
    rng = torch.Generator().manual_seed(seed)
    noise = (torch.rand(n, classes, *cells, generator=rng, dtype=torch.float64) * 4).to(DEVICE)
    arguments = _arguments(form, flow, previous)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: band)
        found = pseudo_labels(logits, (height, width), **arguments, noise=noise)
        assert torch.equal(found.confidence, pseudo_labels(logits, (height, width), **arguments).confidence)
    probability = _plain(logits, (height, width), **arguments)
    rows, columns = (torch.arange(size) * count // size for size, count in zip((height, width), cells, strict=True))
    _check_drawn(found, probability, probability.log() + noise[:, :, rows][..., columns])


def _check_drawn(found, probability, scores):
    best, labels = scores.max(1)
    second = scores.masked_fill(F.one_hot(labels, scores.shape[1]).bool().movedim(-1, 1), float("-inf")).amax(1)
    clear = (best - second > 1e-8) & (probability.amax(1) > 0)
    assert torch.equal(found.labels[clear], labels[clear])


def _layouts():
    logits, flow, previous = _case(0, (2, 5, 3, 4, 7, 6))
    big = _case(1, (3, 6, 5, 7, 9, 8))
    last = torch.channels_last
    return {
        "contiguous": (logits, flow, previous),
        "channels_last": tuple(x.to(memory_format=last) for x in (logits, flow, previous)),
        "sliced": (big[0][1:, :5, 1:4, 2:6], big[1][1:, :, 2:, 1:7], big[2][:2, 1:, :3, 3:]),
        "expanded": (
            logits[:1, :, :1].expand(2, -1, 3, -1),
            flow[:, :, :1, :1].expand(-1, -1, 7, 6),
            previous[:1].expand(2, -1, -1, -1),
        ),
        "empty": (logits[:0], flow[:0], previous[:0]),
        "half": (logits.half(), flow.float(), previous.bfloat16()),
    }


@pytest.mark.parametrize("layout", _layouts())
def test_registration_is_sound(layout):
    logits, flow, previous = _layouts()[layout]
    for arguments in ((logits, None, None), (logits, flow, None), (logits, flow, previous)):
        torch.library.opcheck(pseudo_label_op, (*arguments, 7, 6, False))
    torch.library.opcheck(pseudo_label_op, (*arguments, 7, 6, True))
    noise = torch.rand(len(logits), 5, 2, 3, device=DEVICE)
    torch.library.opcheck(pseudo_label_op, (*arguments, 7, 6, False, "auto", noise))


@pytest.mark.parametrize("layout", ["channels_last", "sliced", "expanded"])
def test_strides_do_not_matter(layout):
    logits, flow, previous = _layouts()[layout]
    _check(
        pseudo_labels(logits, (7, 6), flow=flow, previous=previous),
        _plain(logits.contiguous(), (7, 6), flow.contiguous(), previous.contiguous()),
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype, form):
    logits, flow, previous = _case(0, (2, 5, 3, 4, 37, 41), dtype)
    found = pseudo_labels(logits, (37, 41), **_arguments(form, flow, previous))
    wide = _plain(logits.double(), (37, 41), **_arguments(form, flow.double(), previous.double()))
    compute = torch.promote_types(dtype, torch.float32)
    assert found.confidence.dtype == compute
    # coordinates are 41 long, logits a few units apart from cell to cell, and a soft-max has slope 1/4 at most
    tolerance = 41 * float(logits.double().abs().max()) * 4 * torch.finfo(compute).eps
    _check(found._replace(confidence=found.confidence.double()), wide, tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype, form):
    # half precision cannot count 600 columns
    logits, flow, previous = _case(0, (1, 3, 2, 5, 4, 600), dtype)
    found = pseudo_labels(logits, (4, 600), **_arguments(form, flow, previous))
    wide = pseudo_labels(logits.float(), (4, 600), **_arguments(form, flow.float(), previous.float()))
    assert torch.equal(found.labels, wide.labels)
    assert torch.equal(found.confidence, wide.confidence)


def test_labels_are_data_without_a_gradient():
    logits, flow, previous = (x.requires_grad_() for x in _case(0, (2, 5, 3, 4, 7, 6)))
    found = pseudo_labels(logits, (7, 6), flow=flow, previous=previous)
    assert not found.confidence.requires_grad
    assert not found.labels.requires_grad


@pytest.mark.parametrize("form", FORMS)
def test_compiles_without_a_graph_break(form):
    compiled = torch.compile(pseudo_labels, fullgraph=True, backend="aot_eager")
    logits, flow, previous = _case(0, (2, 5, 3, 4, 7, 6), torch.float32)
    found = compiled(logits, (7, 6), **_arguments(form, flow, previous))
    want = pseudo_labels(logits, (7, 6), **_arguments(form, flow, previous))
    assert torch.equal(found.labels, want.labels)
    assert torch.equal(found.confidence, want.confidence)


class _Largest(TorchDispatchMode):
    """Remember the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple) else (out,):
            if isinstance(x, torch.Tensor) and x.untyped_storage().nbytes():
                self.numel = max(self.numel, x.untyped_storage().nbytes() // x.element_size())
        return out


def test_bands_suit_the_device():
    cpu, other = torch.device("cpu"), torch.device("cuda")
    rows = [[len(range(512)[band]) for band in _bands.row_bands(8 * 19 * 1024, 512, d)] for d in (cpu, other)]
    assert [sum(bands) for bands in rows] == [512, 512]
    assert max(rows[0]) == 3  # a core's cache holds them
    assert 1 < len(rows[1]) < 5  # few launches, and not the whole map


@pytest.mark.parametrize("form", FORMS)
def test_no_map_with_all_classes_exists_at_full_size(form, monkeypatch):
    monkeypatch.setattr(_bands, "band_elements", lambda _: 4096)
    logits, flow, previous = _case(0, (1, 19, 5, 9, 64, 128), torch.float32)
    arguments = _arguments(form, flow, previous)
    with _Largest() as plain:
        _plain(logits, (64, 128), **arguments)
    with _Largest() as banded:
        pseudo_label_reference(logits, arguments.get("flow"), arguments.get("previous"), 64, 128)
    assert plain.numel >= 19 * 64 * 128
    assert banded.numel <= 19 * 64 * 128 / 8


@pytest.mark.parametrize(
    "sizes", [(0, 3, 2, 4, 5, 6), (2, 1, 3, 4, 5, 6), (1, 3, 1, 1, 5, 4), (2, 3, 4, 5, 1, 6), (2, 3, 4, 5, 6, 1)]
)
@pytest.mark.parametrize("form", FORMS)
def test_sizes_at_the_edge(sizes, form):
    logits, flow, previous = _case(0, sizes)
    arguments = _arguments(form, flow, previous)
    found = pseudo_labels(logits, sizes[4:], **arguments)
    assert found.labels.shape == found.confidence.shape == (sizes[0], *sizes[4:])
    _check(found, _plain(logits, sizes[4:], **arguments))


@pytest.mark.parametrize("form", FORMS)
def test_nan_logits_give_nan_confidence_and_labels_in_range(form):
    logits, flow, previous = _case(0, (2, 5, 3, 4, 7, 6), torch.float32)
    logits[1, 2] = float("nan")
    found = pseudo_labels(logits, (7, 6), **_arguments(form, flow, previous))
    assert found.confidence[1].isnan().all()
    assert not found.confidence[0].isnan().any()
    assert ((found.labels >= 0) & (found.labels < 5)).all()
    entropy = pseudo_labels(logits, (7, 6), **_arguments(form, flow, previous), confidence="entropy").confidence
    assert torch.equal(entropy.isnan(), found.confidence.isnan())


@given(seed=SEEDS, form=st.sampled_from(["flow", "both"]), rows=st.integers(1, 7))
def test_rows_of_the_earlier_frame_are_kept_from_band_to_band(seed, form, rows):
    # whole rows that jump up and down: the next band needs rows before, after, within and far from those kept
    logits, flow, previous = _case(seed, (2, 3, 13, 5, 60, 7), reach=0.3)
    rng = torch.Generator().manual_seed(seed)
    flow[:, 1] += torch.randint(-8, 9, (60, 1), generator=rng).to(flow)
    asked = _arguments(form, flow, previous)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_bands, "band_elements", lambda _: rows * 2 * 3 * 7 * reference._FLOW_BAND)
        patch.setattr(reference, "_WINDOW", 1e9)
        found = pseudo_labels(logits, (60, 7), **asked)
    _check(found, _plain(logits, (60, 7), **asked))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), 1e30])
def test_flow_that_leads_nowhere_says_nothing(value, axis, window, monkeypatch):
    monkeypatch.setattr(reference, "_WINDOW", window)
    logits, flow, previous = _case(0, (2, 5, 3, 4, 7, 6), torch.float32, reach=0.0)
    flow[1, axis, 2, 3] = value
    alone = pseudo_labels(logits, (7, 6), flow=flow)
    assert alone.confidence[1, 2, 3] == 0
    assert (alone.confidence > 0).sum() == 2 * 7 * 6 - 1
    both = pseudo_labels(logits, (7, 6), flow=flow, previous=previous)
    own = pseudo_labels(logits, (7, 6))
    assert both.labels[1, 2, 3] == own.labels[1, 2, 3]
    torch.testing.assert_close(both.confidence[1, 2, 3], own.confidence[1, 2, 3])


@pytest.mark.parametrize("name", ["logits", "previous"])
def test_debug_checks_name_what_is_not_finite(name):
    logits, flow, previous = _case(0, (2, 5, 3, 4, 7, 6))
    {"logits": logits, "previous": previous}[name][0, 0, 0, 0] = float("nan")
    with debug_checks(), _raises(ValueError, f"pseudo_labels: `{name}` must be finite; got NaN or infinite values."):
        pseudo_labels(logits, (7, 6), flow=flow, previous=previous)


_LOGITS, _FLOW = torch.zeros(2, 5, 3, 4), torch.zeros(2, 2, 7, 6)


@pytest.mark.parametrize(
    ("logits", "size", "flow", "previous", "kind", "text"),
    [
        (
            _LOGITS[0], (7, 6), None, None, ValueError,
            "`logits` must have shape (N, K, h, w); got (5, 3, 4).",
        ),
        (
            _LOGITS[:, :0], (7, 6), None, None, ValueError,
            "`logits` must have a size of at least 1 along K; got (2, 0, 3, 4).",
        ),
        (_LOGITS, (7, 0), None, None, ValueError, "`size` must be (height, width), both at least 1; got (7, 0)."),
        (
            _LOGITS, (7, 6), _FLOW.mT, None, ValueError,
            "`flow` must have shape (N=2, 2, H=7, W=6); got (2, 2, 6, 7). Resize it with resize_flow.",
        ),
        (
            _LOGITS, (7, 6), _FLOW[:1], None, ValueError,
            "`flow` must have shape (N=2, 2, H=7, W=6); got (1, 2, 7, 6). Resize it with resize_flow.",
        ),
        (
            _LOGITS, (7, 6), None, _LOGITS, ValueError,
            "`previous` must come with `flow`; got flow=None.",
        ),
        (
            _LOGITS, (7, 6), _FLOW, _LOGITS[:, 1:], ValueError,
            "`previous` must have shape (N=2, K=5, h=3, w=4); got (2, 4, 3, 4).",
        ),
        (_LOGITS.long(), (7, 6), None, None, TypeError, "`logits` must be of dtype float; got torch.int64."),
        (_LOGITS, (7, 6), _FLOW.int(), None, TypeError, "`flow` must be of dtype float; got torch.int32."),
        (
            _LOGITS, (7, 6), _FLOW, _LOGITS.long(), TypeError,
            "`previous` must be of dtype float; got torch.int64.",
        ),
        (
            _LOGITS, (7, 6), _FLOW.to("meta"), None, ValueError,
            "all tensors must lie on one device; got `logits` on cpu, `flow` on meta.",
        ),
        (
            _LOGITS, (7, 6), _FLOW, _LOGITS.to("meta"), ValueError,
            "all tensors must lie on one device; got `logits` on cpu, `flow` on cpu, "
            "`previous` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(logits, size, flow, previous, kind, text):
    with _raises(kind, f"pseudo_labels: {text}"):
        pseudo_labels(logits, size, flow=flow, previous=previous)


def test_an_unknown_confidence_is_named():
    with _raises(ValueError, "pseudo_labels: `confidence` must be one of 'probability', 'entropy'; got 'margin'."):
        pseudo_labels(_LOGITS, (7, 6), confidence="margin")


@pytest.mark.parametrize("reach", [0.0, 1.5, 40.0])
def test_few_rows_at_once_and_neighbours_recomputed_are_the_same(monkeypatch, reach):
    logits, flow = torch.randn(2, 5, 6, 9), reach * torch.randn(2, 2, 23, 31)
    monkeypatch.setattr(reference, "_WINDOW", 1e9)
    labels, confidence = reference.pseudo_label_reference(logits, flow, None, 23, 31)
    monkeypatch.setattr(reference, "_WINDOW", -1)
    neighbours = reference.pseudo_label_reference(logits, flow, None, 23, 31)
    torch.testing.assert_close(neighbours[1], confidence, rtol=1e-5, atol=1e-5)
    assert (neighbours[0] == labels).float().mean() > 0.99  # ties in the last digit may fall either way
