import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from dastc import Clip
from dastc.functional import clip_paste
from dastc.ops.clip_paste.op import clip_paste_op

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SEEDS = st.integers(0, 2**31 - 1)
SIZES = st.lists(st.integers(1, 7), min_size=5, max_size=5, unique=True)  # B, T, H, W, K: pairwise different
FIELDS = st.sampled_from(["", "flow", "weights", "flow weights"])


def _clip(rng, sizes, dtype=torch.float64, fields="flow weights", outside=True, channels=3):
    b, t, h, w, k = sizes
    low, high = (-2, k + 3) if outside else (0, k)
    labels = torch.randint(low, high, (b, t, h, w), generator=rng)
    frames = torch.randn(b, t, channels, h, w, generator=rng, dtype=torch.float64)
    flow = torch.randn(b, t - 1, 2, h, w, generator=rng, dtype=torch.float64)
    weights = torch.rand(b, t, h, w, generator=rng, dtype=torch.float64)
    return Clip(
        frames.to(DEVICE, dtype),
        labels.to(DEVICE),
        flow.to(DEVICE, dtype) if "flow" in fields else None,
        weights.to(DEVICE, dtype) if "weights" in fields else None,
    )


def _case(seed, sizes, dtype=torch.float64, fields="flow weights", outside=True, channels=3):
    rng = torch.Generator().manual_seed(seed)
    front, back = (_clip(rng, sizes, dtype, fields, outside, channels) for _ in range(2))
    table = (torch.rand(sizes[0], sizes[4], generator=rng) < 0.5).to(DEVICE)
    eligible = (torch.rand(front.labels.shape, generator=rng) < 0.7).to(DEVICE)
    return front, back, table, eligible


def _plain(front, back, table, key=None, eligible=None, opacity=1.0):
    """Sample by sample, frame by frame, class by class."""
    key = front.labels if key is None else key
    mask = torch.zeros_like(key, dtype=torch.bool)
    for b in range(table.shape[0]):
        for t in range(key.shape[1]):
            for k in range(table.shape[1]):
                if table[b, k]:
                    mask[b, t] |= key[b, t] == k
    if eligible is not None:
        mask = mask & eligible
    frames = torch.where(mask[:, :, None], opacity * front.frames + (1 - opacity) * back.frames, back.frames)
    flow = front.flow
    if flow is not None and flow.shape[1]:
        both = zip(front.flow.unbind(1), back.flow.unbind(1), strict=True)
        flow = torch.stack([torch.where(mask[:, t + 1, None], *pair) for t, pair in enumerate(both)], dim=1)
    weights = None if front.weights is None else torch.where(mask, front.weights, back.weights)
    return Clip(frames, torch.where(mask, front.labels, back.labels), flow, weights), mask


def _tracked(clip):
    return Clip(*(x.detach().requires_grad_() if x is not None and x.is_floating_point() else x for x in clip))


def _floats(*clips):
    return [x for clip in clips for x in clip if x is not None and x.is_floating_point()]


def _raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_known_values():
    # two frames of three pixels; class 1 is pasted, and moves one pixel to the right
    def clip(value, labels):
        return Clip(
            torch.full((1, 2, 3, 1, 3), value, device=DEVICE),
            torch.tensor(labels, device=DEVICE).view(1, 2, 1, 3),
            torch.full((1, 1, 2, 1, 3), value, device=DEVICE),
            torch.full((1, 2, 1, 3), value / 10, device=DEVICE),
        )

    front, back = clip(5.0, [[1, 0, 255], [0, 1, 1]]), clip(2.0, [[7, 8, 9], [10, 11, 12]])
    out, mask = clip_paste(front, back, torch.tensor([[False, True]], device=DEVICE))
    assert mask.tolist() == [[[[True, False, False]], [[False, True, True]]]]
    assert out.labels.tolist() == [[[[1, 8, 9]], [[10, 1, 1]]]]
    for channel in range(3):
        assert out.frames[0, :, channel, 0].tolist() == [[5, 2, 2], [2, 5, 5]]
    # the one flow field lies on the grid of the second frame
    assert out.flow.tolist() == [[[[[2, 5, 5]], [[2, 5, 5]]]]]
    torch.testing.assert_close(out.weights[0, :, 0], out.frames[0, :, 0, 0] / 10)


def test_known_values_of_a_soft_paste():
    front = Clip(torch.full((1, 1, 3, 1, 2), 8.0), torch.tensor([[[[0, 1]]]]), weights=torch.full((1, 1, 1, 2), 0.9))
    back = Clip(torch.zeros(1, 1, 3, 1, 2), torch.tensor([[[[2, 2]]]]), weights=torch.full((1, 1, 1, 2), 0.1))
    out, _ = clip_paste(front, back, torch.tensor([[True, False]]), opacity=0.25)
    assert out.frames[0, 0, 1].tolist() == [[2.0, 0.0]]
    assert out.labels.flatten().tolist() == [0, 2]
    torch.testing.assert_close(out.weights.flatten(), torch.tensor([0.9, 0.1]))


@given(SEEDS, SIZES, FIELDS, st.booleans(), st.booleans(), st.sampled_from([1.0, 0.3]), st.sampled_from([1, 3, 5]))
def test_equals_pasting_class_by_class(seed, sizes, fields, other_key, partly, opacity, channels):
    front, back, table, eligible = _case(seed, sizes, fields=fields, channels=channels)
    options = {
        "key": back.labels if other_key else None,
        "eligible": eligible if partly else None,
        "opacity": opacity,
    }
    out, mask = clip_paste(front, back, table, **options)
    want, want_mask = _plain(front, back, table, **options)
    assert torch.equal(mask, want_mask)
    assert torch.equal(out.labels, want.labels)
    torch.testing.assert_close(out.frames, want.frames)
    assert (out.flow is None, out.weights is None) == ("flow" not in fields, "weights" not in fields)
    assert out.flow is None or torch.equal(out.flow, want.flow)
    assert out.weights is None or torch.equal(out.weights, want.weights)


@given(SEEDS, SIZES)
def test_a_hard_paste_copies_bit_for_bit(seed, sizes):
    front, back, table, _ = _case(seed, sizes, torch.float32)
    out, mask = clip_paste(front, back, table)
    assert torch.equal(out.frames, torch.where(mask[:, :, None], front.frames, back.frames))


@given(SEEDS, SIZES, FIELDS, st.sampled_from([1.0, 0.3]))
def test_gradients_equal_those_of_pasting_class_by_class(seed, sizes, fields, opacity):
    front, back, table, eligible = _case(seed, sizes, fields=fields)
    front, back = _tracked(front), _tracked(back)
    found = _floats(clip_paste(front, back, table, eligible=eligible, opacity=opacity)[0])
    want = _floats(_plain(front, back, table, eligible=eligible, opacity=opacity)[0])
    ups = [torch.randn_like(x) for x in found]
    inputs = _floats(front, back)
    torch.testing.assert_close(
        torch.autograd.grad(found, inputs, ups, materialize_grads=True),
        torch.autograd.grad([x for x in want if x.requires_grad], inputs, ups, materialize_grads=True),
    )


@pytest.mark.parametrize("field", ["frames", "flow", "weights"])
def test_each_output_alone_has_its_gradient(field):
    front, back, table, _ = _case(0, (2, 3, 4, 5, 6))
    front, back = _tracked(front), _tracked(back)
    out, mask = clip_paste(front, back, table)
    up = torch.randn_like(getattr(out, field))
    inputs = _floats(front, back)
    grads = torch.autograd.grad(getattr(out, field), inputs, up, materialize_grads=True)
    own = {"frames": 0, "flow": 1, "weights": 2}[field]
    taken = {"frames": mask[:, :, None], "flow": mask[:, 1:, None], "weights": mask}[field]
    for i, grad in enumerate(grads):
        want = {own: up * taken, own + 3: up * ~taken}.get(i, torch.zeros_like(inputs[i]))
        torch.testing.assert_close(grad, want)


@pytest.mark.parametrize("opacity", [1.0, 0.3])
def test_gradcheck(opacity):
    front, back, table, eligible = _case(0, (2, 3, 2, 1, 4))
    inputs = _floats(_tracked(front), _tracked(back))

    def paste(*x):
        pair = Clip(x[0], front.labels, x[1], x[2]), Clip(x[3], back.labels, x[4], x[5])
        return tuple(_floats(clip_paste(*pair, table, eligible=eligible, opacity=opacity)[0]))

    assert gradcheck(paste, inputs)
    assert gradgradcheck(paste, inputs)


@given(SEEDS, SIZES, st.booleans())
def test_exchanging_the_clips_and_complementing_the_table_is_the_same_clip(seed, sizes, partly):
    front, back, table, _ = _case(seed, sizes, outside=False)
    key = front.labels if partly else back.labels
    out, mask = clip_paste(front, back, table, key=key)
    other, complement = clip_paste(back, front, ~table, key=key)
    assert torch.equal(mask, ~complement)
    for one, two in zip(out, other, strict=True):
        assert torch.equal(one, two)


@given(SEEDS, SIZES)
def test_permuting_the_classes_changes_nothing(seed, sizes):
    front, back, table, _ = _case(seed, sizes)
    k = sizes[4]
    order = torch.randperm(k, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    counted = (front.labels >= 0) & (front.labels < k)
    renamed = order.argsort()[front.labels.where(counted, 0)].where(counted, 255)
    assert torch.equal(clip_paste(front, back, table[:, order], key=renamed)[1], clip_paste(front, back, table)[1])


@given(SEEDS, SIZES)
def test_a_batch_equals_its_samples_and_a_clip_its_frames(seed, sizes):
    front, back, table, eligible = _case(seed, sizes)
    out, mask = clip_paste(front, back, table, eligible=eligible)
    for i in range(sizes[0]):
        one = slice(i, i + 1)
        single, single_mask = clip_paste(
            Clip(*(x[one] for x in front)), Clip(*(x[one] for x in back)), table[one], eligible=eligible[one]
        )
        assert torch.equal(single_mask, mask[one])
        for a, b in zip(single, out, strict=True):
            assert torch.equal(a, b[one])
    last, last_mask = clip_paste(front.last(), back.last(), table, eligible=eligible[:, -1:])
    assert torch.equal(last_mask, mask[:, -1:])
    assert torch.equal(last.frames, out.last().frames)
    assert torch.equal(last.labels, out.last().labels)
    assert torch.equal(last.weights, out.last().weights)


@given(SEEDS, SIZES)
def test_no_class_is_the_background_and_every_class_the_foreground(seed, sizes):
    front, back, table, eligible = _case(seed, sizes, outside=False)
    for chosen, options, want in (
        (torch.zeros_like(table), {}, back),
        (torch.ones_like(table), {}, front),
        (torch.ones_like(table), {"eligible": torch.zeros_like(eligible)}, back),
        (torch.ones_like(table), {"eligible": torch.ones_like(eligible)}, front),
    ):
        out, _ = clip_paste(front, back, chosen, **options)
        for one, two in zip(out, want, strict=True):
            assert torch.equal(one, two)


def _arguments(layout):
    front, back, table, eligible = _case(0, (2, 3, 4, 5, 6))
    if layout == "sliced":
        front, back, _, eligible = _case(1, (3, 3, 6, 8, 6))
        front, back = (Clip(*(x[1:, ..., 1:5, 2:7] for x in clip)) for clip in (front, back))
        table, eligible = torch.cat((table, ~table))[::2], eligible[1:, ..., 1:5, 2:7]
    elif layout == "transposed":
        front, back = (Clip(*(x.mT.contiguous().mT for x in clip)) for clip in (front, back))
        eligible = eligible.mT.contiguous().mT
    elif layout == "expanded":
        front = Clip(*(x[:1].expand_as(x) for x in front))
        table = table[:1].expand_as(table)
    elif layout == "empty":
        front, back = (Clip(*(x[:0] for x in clip)) for clip in (front, back))
        table, eligible = table[:0], eligible[:0]
    elif layout == "half":
        front, back = (
            Clip(clip.frames.half(), clip.labels, clip.flow.float(), clip.weights.bfloat16()) for clip in (front, back)
        )
    return front, back, table, eligible


_LAYOUTS = ["contiguous", "sliced", "transposed", "expanded", "empty", "half"]


@pytest.mark.parametrize(("layout", "opacity"), [*((layout, 1.0) for layout in _LAYOUTS), ("contiguous", 0.3)])
def test_registration_is_sound(layout, opacity):
    front, back, table, eligible = _arguments(layout)
    front, back = _tracked(front), _tracked(back)
    interleaved = [x for pair in zip(front, back, strict=True) for x in pair]
    torch.library.opcheck(clip_paste_op, (*interleaved, front.labels, table, eligible, opacity))


def test_registration_is_sound_without_flow_and_weights():
    front, back, table, _ = _arguments("contiguous")
    front, back = _tracked(front), _tracked(back)
    arguments = (front.frames, back.frames, front.labels, back.labels, None, None, None, None)
    torch.library.opcheck(clip_paste_op, (*arguments, back.labels, table, None, 1.0))


@pytest.mark.parametrize("layout", ["sliced", "transposed", "expanded", "half"])
def test_strides_do_not_matter(layout):
    front, back, table, eligible = _arguments(layout)
    front, back = _tracked(front), _tracked(back)
    dense = [_tracked(Clip(*(x.contiguous() for x in clip))) for clip in (front, back)]
    found = _floats(clip_paste(front, back, table, eligible=eligible)[0])
    want = _floats(clip_paste(*dense, table.contiguous(), eligible=eligible.contiguous())[0])
    ups = [torch.randn_like(x.mT).mT for x in found]
    grads = torch.autograd.grad(found, _floats(front, back), ups)
    exact = torch.autograd.grad(want, _floats(*dense), [x.contiguous() for x in ups])
    for one, two in zip((*found, *grads), (*want, *exact), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtypes_against_float64(dtype):
    front, back, table, _ = _case(0, (2, 3, 4, 5, 6), dtype)
    wide = [Clip(*(x.double() if x.is_floating_point() else x for x in clip)) for clip in (front, back)]
    for opacity in (1.0, 0.3):
        out, _ = clip_paste(front, back, table, opacity=opacity)
        want, _ = _plain(*wide, table, opacity=opacity)
        atol = 0 if opacity == 1 else 4 * torch.finfo(dtype).eps * float(want.frames.abs().max())
        assert {x.dtype for x in _floats(out)} == {dtype}
        torch.testing.assert_close([x.double() for x in _floats(out)], _floats(want), rtol=0, atol=atol)


@pytest.mark.parametrize("opacity", [1.0, 0.3])
def test_compiles_without_a_graph_break(opacity):
    compiled = torch.compile(clip_paste, fullgraph=True, backend="aot_eager")
    rng = torch.Generator().manual_seed(5)
    for share in (0.0, 0.25, 1.0):
        front, back, table, eligible = _case(0, (2, 3, 4, 5, 6), torch.float32, outside=False)
        ignored = torch.rand(front.labels.shape, generator=rng).to(DEVICE) < share
        front, back = _tracked(front._replace(labels=front.labels.where(~ignored, 255))), _tracked(back)
        results = []
        for paste in (compiled, clip_paste):
            out, mask = paste(front, back, table, eligible=eligible, opacity=opacity)
            ups = [torch.linspace(0, 1, x.numel(), device=DEVICE).view(x.shape) for x in _floats(out)]
            results.append((*out, mask, *torch.autograd.grad(_floats(out), _floats(front, back), ups)))
        torch.testing.assert_close(*results, rtol=0, atol=0)
        assert bool(results[0][4].any()) is (share < 1)


def test_compiles_without_flow_and_weights():
    compiled = torch.compile(clip_paste, fullgraph=True, backend="aot_eager")
    front, back, table, _ = _case(0, (2, 1, 4, 5, 6), torch.float32, fields="")
    (out, mask), (want, want_mask) = compiled(front, back, table), clip_paste(front, back, table)
    assert torch.equal(out.frames, want.frames)
    assert torch.equal(out.labels, want.labels)
    assert torch.equal(mask, want_mask)
    assert out.flow is None
    assert out.weights is None


@pytest.mark.parametrize("fields", ["", "flow", "weights", "flow weights"])
def test_a_clip_of_one_frame(fields):
    # the flow of one frame is no flow, or a tensor without an entry
    front, back, table, _ = _case(0, (2, 1, 4, 5, 6), fields=fields)
    out, mask = clip_paste(front, back, table)
    want, want_mask = _plain(front, back, table)
    assert torch.equal(mask, want_mask)
    assert torch.equal(out.frames, want.frames)
    assert (None if out.flow is None else out.flow.shape) == (None if want.flow is None else (2, 0, 2, 4, 5))


@pytest.mark.parametrize("missing", ["foreground", "background"])
def test_missing_weights_count_one(missing):
    front, back, table, _ = _case(0, (2, 3, 4, 5, 6))
    ones = torch.ones_like(front.weights)
    full = (front._replace(weights=ones), back) if missing == "foreground" else (front, back._replace(weights=ones))
    lacks = [clip._replace(weights=None) if (clip.weights == 1).all() else clip for clip in full]
    assert sum(clip.weights is None for clip in lacks) == 1
    want = clip_paste(*full, table)[0].weights
    assert torch.equal(clip_paste(*lacks, table)[0].weights, want)
    assert 0 < int((want == 1).sum()) < want.numel()


def test_a_gradient_reaches_the_weights_of_the_clip_that_has_them():
    front, back, table, _ = _case(0, (2, 3, 4, 5, 6))
    weights = back.weights.clone().requires_grad_()
    out, mask = clip_paste(front._replace(weights=None), back._replace(weights=weights), table)
    up = torch.randn_like(weights)
    (grad,) = torch.autograd.grad(out.weights, weights, up)
    assert torch.equal(grad, up * ~mask)


@pytest.mark.parametrize("label", [254, 19, 255, -1, -100, 2**62, -(2**62)])
def test_labels_outside_are_never_pasted(label):
    front, back, table, _ = _case(0, (2, 3, 4, 5, 19), outside=False)
    labels = front.labels.clone()
    labels[:, 1, 2:] = label
    out, mask = clip_paste(front._replace(labels=labels), back, torch.ones_like(table))
    assert not mask[:, 1, 2:].any()
    assert int(mask.sum()) == mask.numel() - mask[:, 1, 2:].numel()
    assert torch.equal(out.labels[:, 1, 2:], back.labels[:, 1, 2:])


@pytest.mark.parametrize("opacity", [1.0, 0.3])
def test_nan_that_is_covered_leaves_no_trace(opacity):
    front, back, table, _ = _case(0, (2, 3, 4, 5, 6))
    mask = clip_paste(front, back, table)[1]
    for covered in ({"front": ~mask}, {"back": mask} if opacity == 1 else {}):
        clips = {"front": front, "back": back}
        for name, where in covered.items():
            clips[name] = clips[name]._replace(frames=clips[name].frames.masked_fill(where[:, :, None], float("nan")))
        tracked = _tracked(clips["front"]), _tracked(clips["back"])
        out, _ = clip_paste(*tracked, table, opacity=opacity)
        assert torch.equal(out.frames, clip_paste(front, back, table, opacity=opacity)[0].frames)
        for grad in torch.autograd.grad(_floats(out), _floats(*tracked), [torch.randn_like(x) for x in _floats(out)]):
            assert torch.isfinite(grad).all()


def test_an_empty_batch():
    front, back, table, eligible = _case(0, (0, 3, 4, 5, 6))
    front, back = _tracked(front), _tracked(back)
    out, mask = clip_paste(front, back, table, eligible=eligible)
    assert mask.shape == (0, 3, 4, 5)
    assert [x.shape for x in out] == [x.shape for x in front]
    grads = torch.autograd.grad(_floats(out), _floats(front, back), [torch.ones_like(x) for x in _floats(out)])
    assert [g.shape for g in grads] == [x.shape for x in _floats(front, back)]


def test_the_inputs_stay_as_they_are():
    front, back, table, eligible = _case(0, (2, 3, 4, 5, 6))
    before = [x.clone() for x in (*front, *back, table, eligible)]
    out, mask = clip_paste(front, back, table, eligible=eligible)
    for x in (*out, mask):
        x.zero_()
    for x, was in zip((*front, *back, table, eligible), before, strict=True):
        assert torch.equal(x, was)


def _clips(**changes):
    clip = Clip(
        torch.zeros(2, 3, 3, 4, 5),
        torch.zeros(2, 3, 4, 5, dtype=torch.int64),
        torch.zeros(2, 2, 2, 4, 5),
        torch.zeros(2, 3, 4, 5),
    )
    return clip._replace(**changes)


_TABLE = torch.zeros(2, 6, dtype=torch.bool)
_WIDER = Clip(torch.zeros(2, 3, 3, 4, 6), torch.zeros(2, 3, 4, 6, dtype=torch.int64))
_ONE = "all tensors must lie on one device; got `foreground` on cpu, `background` on cpu, "


@pytest.mark.parametrize(
    ("front", "back", "table", "options", "kind", "text"),
    [
        (_clips(labels=None), _clips(), _TABLE, {}, ValueError, "`foreground.labels` must be given; got None."),
        (_clips(), _clips(labels=None), _TABLE, {}, ValueError, "`background.labels` must be given; got None."),
        (tuple(_clips()), _clips(), _TABLE, {}, TypeError, "`foreground` must be a dastc.Clip; got tuple."),
        (
            _clips(), _WIDER, _TABLE, {}, ValueError,
            "`background.frames` must have shape (B=2, T=3, C=3, H=4, W=5); got (2, 3, 3, 4, 6).",
        ),
        (
            _clips(), _clips(frames=torch.zeros(2, 3, 1, 4, 5)), _TABLE, {}, ValueError,
            "`background.frames` must have shape (B=2, T=3, C=3, H=4, W=5); got (2, 3, 1, 4, 5).",
        ),
        (
            _clips(), _clips(labels=torch.zeros(2, 3, 4, 4).long()), _TABLE, {}, ValueError,
            "`background.labels` must have shape (B=2, T=3, H=4, W=5); got (2, 3, 4, 4).",
        ),
        (_clips(), _clips(), _TABLE[:1], {}, ValueError, "`table` must have shape (B=2, K); got (1, 6)."),
        (_clips(), _clips(), _TABLE[0], {}, ValueError, "`table` must have shape (B=2, K); got (6,)."),
        (_clips(), _clips(), _TABLE.long(), {}, TypeError, "`table` must be of dtype bool; got torch.int64."),
        (
            _clips(), _clips(), _TABLE, {"key": torch.zeros(2, 3, 4, 4).long()}, ValueError,
            "`key` must have shape (B=2, T=3, H=4, W=5); got (2, 3, 4, 4).",
        ),
        (
            _clips(), _clips(), _TABLE, {"key": torch.zeros(2, 3, 4, 5)}, TypeError,
            "`key` must be of dtype int64; got torch.float32.",
        ),
        (
            _clips(), _clips(), _TABLE, {"eligible": torch.zeros(2, 3, 5, 4).bool()}, ValueError,
            "`eligible` must have shape (B=2, T=3, H=4, W=5); got (2, 3, 5, 4).",
        ),
        (
            _clips(), _clips(), _TABLE, {"eligible": torch.zeros(2, 3, 4, 5)}, TypeError,
            "`eligible` must be of dtype bool; got torch.float32.",
        ),
        (_clips(), _clips(), _TABLE, {"opacity": 0.0}, ValueError, "`opacity` must lie in (0, 1]; got 0.0."),
        (_clips(), _clips(), _TABLE, {"opacity": 1.5}, ValueError, "`opacity` must lie in (0, 1]; got 1.5."),
        (
            _clips(), _clips(), _TABLE, {"opacity": float("nan")}, ValueError,
            "`opacity` must lie in (0, 1]; got nan.",
        ),
        (
            _clips(), _clips(flow=None), _TABLE, {}, ValueError,
            "`background.flow` must be given, as `foreground` has flow; got None. Drop it or give both.",
        ),
        (
            _clips(flow=None), _clips(), _TABLE, {}, ValueError,
            "`foreground.flow` must be given, as `background` has flow; got None. Drop it or give both.",
        ),
        (
            _clips(), _clips(frames=torch.zeros(2, 3, 3, 4, 5).half()), _TABLE, {}, TypeError,
            "`background.frames` must be of dtype torch.float32, as the foreground's are; got torch.float16.",
        ),
        (
            _clips(), _clips(weights=torch.zeros(2, 3, 4, 5).double()), _TABLE, {}, TypeError,
            "`background.weights` must be of dtype torch.float32, as the foreground's are; got torch.float64.",
        ),
        (
            _clips(), _clips().to("meta"), _TABLE, {}, ValueError,
            "all tensors must lie on one device; got `foreground` on cpu, `background` on meta, `table` on cpu, "
            "`key` on cpu.",
        ),
        (_clips(), _clips(), _TABLE.to("meta"), {}, ValueError, _ONE + "`table` on meta, `key` on cpu."),
        (
            _clips(), _clips(), _TABLE, {"key": torch.zeros(2, 3, 4, 5, device="meta").long()}, ValueError,
            _ONE + "`table` on cpu, `key` on meta.",
        ),
        (
            _clips(), _clips(), _TABLE, {"eligible": torch.zeros(2, 3, 4, 5, device="meta").bool()}, ValueError,
            _ONE + "`table` on cpu, `key` on cpu, `eligible` on meta.",
        ),
    ],
)  # fmt: skip
def test_errors(front, back, table, options, kind, text):
    with _raises(kind, f"clip_paste: {text}"):
        clip_paste(front, back, table, **options)
