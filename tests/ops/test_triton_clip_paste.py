import pytest
import torch
from kernel_cases import DEVICE, another, assert_agree, every_dtype, every_layout, far_apart, ignore, lay

from dastc import Clip
from dastc.functional import clip_paste
from dastc.ops.clip_paste.op import clip_paste_op


def _clip(rng, sizes, dtype, layout, flow, weights):
    b, t, h, w, k = sizes
    parts = (
        torch.randn(b, t, 3, h, w, generator=rng).to(dtype),
        ignore(torch.randint(0, k, (b, t, h, w), generator=rng), 0.2),
        torch.randn(b, t - 1, 2, h, w, generator=rng) if flow else None,
        torch.rand(b, t, h, w, generator=rng).to(dtype) if weights else None,
    )
    return Clip(*(None if x is None else lay(x, layout) for x in parts))


def _case(sizes=(2, 2, 2, 3, 5), dtype=torch.float32, layout="contiguous", *, flow=True, weights=True, cut=True):
    rng = torch.Generator().manual_seed(0)
    clips = [_clip(rng, sizes, dtype, given, flow, weights) for given in (layout, another(layout))]
    table = (torch.rand(sizes[0], sizes[4], generator=rng) < 0.6).to(DEVICE)
    eligible = lay(torch.rand(sizes[:4], generator=rng) < 0.7, layout) if cut else None
    return clips, table, {"eligible": eligible}


def _flat(result):
    clip, mask = result
    return [x for x in (*clip, mask) if x is not None]


def _assert_like_the_reference(clips, table, options, **tolerance):
    found, want = (_flat(clip_paste(*clips, table, **options, backend=backend)) for backend in ("triton", "torch"))
    assert_agree(found, want, **(tolerance or {"rtol": 0, "atol": 0}))
    return found


@every_dtype
@every_layout
@pytest.mark.parametrize("opacity", [1.0, 0.7, 0.3])
def test_equals_the_reference(dtype, layout, opacity):
    clips, table, options = _case(dtype=dtype, layout=layout)
    tolerance = {} if opacity == 1 else {"rtol": 1e-6, "atol": 1e-6}
    found = _assert_like_the_reference(clips, table, options | {"opacity": opacity}, **tolerance)
    assert 0 < found[-1].float().mean() < 1


@pytest.mark.parametrize("flow", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_what_is_not_given_is_not_made(flow, weights):
    _assert_like_the_reference(*_case(flow=flow, weights=weights, cut=False))


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, 1, 1), (1, 3, 2, 5, 256), (2, 1, 3, 4, 3), (1, 2, 1, 300, 4), (0, 2, 3, 4, 5)]
)
def test_odd_sizes(sizes):
    _assert_like_the_reference(*_case(sizes, flow=sizes[1] > 1))


def test_other_labels_may_decide():
    clips, table, options = _case()
    _assert_like_the_reference(clips, table, options | {"key": clips[1].labels})


@pytest.mark.parametrize("opacity", [1.0, 0.5])
def test_nan_that_is_covered_leaves_no_trace(opacity):
    clips, table, options = _case(layout="contiguous")
    mask = clip_paste(*clips, table, **options, backend="torch")[1]
    clips[0] = clips[0]._replace(frames=clips[0].frames.masked_fill(~mask.unsqueeze(2), float("nan")))
    found = _assert_like_the_reference(clips, table, options | {"opacity": opacity}, rtol=1e-6, atol=1e-6)
    assert found[0].isfinite().all()


def test_equal_pixels_stay_equal_under_any_opacity():
    clips, table, options = _case()
    for opacity in (0.1, 0.3, 0.7, 0.9):
        clip, _ = clip_paste(clips[0], clips[0], table, **options, opacity=opacity, backend="triton")
        assert torch.equal(clip.frames, clips[0].frames)


def test_gradients_are_the_references():
    grads = []
    for backend in ("triton", "torch"):
        clips, table, options = _case()
        leaves = [x.requires_grad_() for clip in clips for x in (clip.frames, clip.flow, clip.weights)]
        clip, _ = clip_paste(*clips, table, **options, opacity=0.7, backend=backend)
        outputs = clip.frames, clip.flow, clip.weights
        rng = torch.Generator().manual_seed(1)
        up = [torch.randn(x.shape, generator=rng).to(DEVICE) for x in outputs]
        grads.append(torch.autograd.grad(outputs, leaves, up))
    torch.testing.assert_close(*grads, rtol=0, atol=0)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("what", ["frames", "flow", "weights"])
def test_offsets_beyond_int32_are_reached(what, side):
    clips, table, _ = _case((1, 3, 1, 2, 3), dtype=torch.float16)
    clips = [clip._replace(flow=clip.flow.half()) for clip in clips]
    x = getattr(clips[side], what)
    far = far_apart(x.shape[1], x[0, 0].numel()).view(x.shape).copy_(x)
    near = clips[side]._replace(**{what: far.clone()})
    results = []
    for clip, backend in ((clips[side]._replace(**{what: far}), "triton"), (near, "torch")):
        pair = [clip, clips[1]] if side == 0 else [clips[0], clip]
        results.append(_flat(clip_paste(*pair, table, opacity=0.5, backend=backend)))
    assert_agree(*results)


def _arguments(clips, table, options):
    front, back = clips
    return (
        front.frames, back.frames, front.labels, back.labels, front.flow, back.flow, front.weights, back.weights,
        front.labels, table, options["eligible"], 0.7, "triton",
    )  # fmt: skip


def test_registration_is_sound():
    torch.library.opcheck(clip_paste_op, _arguments(*_case()), test_utils=("test_schema", "test_faketensor"))
    torch.library.opcheck(clip_paste_op, _arguments(*_case(flow=False, weights=False, cut=False)))


def test_compiles_without_a_graph_break():
    clips, table, options = _case()
    compiled = torch.compile(clip_paste, fullgraph=True, backend="aot_eager")
    found, want = (_flat(paste(*clips, table, **options, backend="triton")) for paste in (compiled, clip_paste))
    torch.testing.assert_close(found, want, rtol=0, atol=0)
