"""What only a GPU can show: no wait for the host, capture in a graph, more elements than int32 counts.

The comparisons with the references are those of test_triton_*.py, which are compiled where there is a GPU.
"""

import pytest
import torch
from kernel_cases import DEVICE, on_a_gpu

from dastc import Clip, functional
from dastc.ops._backend import _LIMITS
from dastc.ops.centroid_kernel import centroid_kernel

pytestmark = on_a_gpu
BACKENDS = ["triton", "torch"]
MANY = 2**31


def _rand(*shape):
    return torch.rand(shape, device=DEVICE)


def _labels(*shape, classes=5):
    return torch.randint(-1, classes + 1, shape, device=DEVICE)


def _inputs():
    """Return, for each operator, a call on given tensors, and those tensors; those that are floats have a gradient."""
    f = functional
    size = 16, 24
    frames, flow = _rand(2, 2, 3, *size), _rand(2, 1, 2, *size)
    labels, weights = _labels(2, 2, *size), _rand(2, 2, *size)
    table = torch.tensor([[True, False, True, False, True]] * 2, device=DEVICE)

    def paste(front, back, labels, flow, weights, table, **options):
        clips = (Clip(x, labels.roll(i, 2), flow + i, weights * (i + 1)) for i, x in enumerate((front, back)))
        (frames, _, flow, weights), _ = f.clip_paste(*clips, table, opacity=0.7, **options)
        return frames, flow, weights

    return {
        "flow_warp": (
            lambda x, flow, other, share, **k: f.flow_warp(x, flow, other=other, share=share, **k)[:1],
            [_rand(2, 3, *size), _rand(2, 2, *size), _rand(2, 3, *size), _rand(2, *size)],
        ),
        "class_pool": (
            lambda x, labels, weights, **k: f.class_pool(x, labels, 5, weights=weights, **k),
            [_rand(2, 7, *size), _labels(2, *size), _rand(2, *size)],
        ),
        "pseudo_label": (
            lambda x, flow, previous, **k: f.pseudo_labels(
                x, size, flow=flow, previous=previous, confidence="entropy", **k
            ),
            [_rand(2, 5, 4, 6), _rand(2, 2, *size), _rand(2, 5, 4, 6)],
        ),
        "clip_paste": (paste, [frames, frames.flip(-1), labels, flow, weights, table]),
        "upsampled_ce": (
            lambda x, labels, weights, **k: (
                f.upsampled_cross_entropy(x, labels, weights=weights, **k),
                f.upsampled_cross_entropy(x, labels, weights=weights, reduction="none", **k),
            ),
            [_rand(2, 5, 4, 6), _labels(2, *size), _rand(2, *size)],
        ),
        "centroid_kernel": (
            lambda source, target, present, **k: (centroid_kernel(source, target, present, **k),),
            [_rand(5, 9), _rand(5, 9), table[0]],
        ),
    }


every_operator = pytest.mark.parametrize("operator", sorted(_LIMITS))


def _step(call, tensors, backend):
    """Return outputs, and gradients if there are any."""
    leaves = [x.requires_grad_() if x.is_floating_point() else x for x in (x.detach() for x in tensors)]
    outputs = call(*leaves, backend=backend)
    differentiable = [x for x in outputs if x.requires_grad]
    if not differentiable:
        return list(outputs)
    wanted = [x for x in leaves if x.requires_grad]
    ups = [torch.ones_like(x) for x in differentiable]
    return [*outputs, *torch.autograd.grad(differentiable, wanted, ups, materialize_grads=True, allow_unused=True)]


@every_operator
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_host_is_not_waited_for(operator, backend, no_wait):
    call, tensors = _inputs()[operator]
    want = _step(call, tensors, backend)  # compiles, which may wait
    with no_wait():
        found = _step(call, tensors, backend)
    torch.testing.assert_close(found, want)


@every_operator
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_graph_captures_it(operator, backend):
    call, tensors = _inputs()[operator]
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(2):
            _step(call, tensors, backend)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = _step(call, tensors, backend)
    for x in tensors:
        x.copy_(x.flip(-1))
    graph.replay()
    torch.testing.assert_close(found, _step(call, tensors, backend))


@every_operator
@pytest.mark.filterwarnings("default")  # the compiler warns of its own parts, and of precision that is not used
def test_compiles_to_code_without_a_graph_break(operator):
    call, tensors = _inputs()[operator]
    compiled = torch.compile(call, fullgraph=True)
    torch.testing.assert_close(_step(compiled, tensors, "triton"), _step(call, tensors, "triton"))


# --- more than 2^31 elements: what lies at the end must be as if it lay at the start


@pytest.fixture
def _room():
    torch.cuda.empty_cache()
    torch.use_deterministic_algorithms(False)  # nothing is left unwritten here, and filling it takes as long again
    if torch.cuda.mem_get_info()[0] < 60 * 2**30:
        pytest.skip("needs 60 GiB of GPU memory")
    yield
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("_room")
def test_many_elements_are_warped():
    side = 2**13
    channels = MANY // side**2 + 1
    x = torch.zeros(1, channels, side, side, dtype=torch.float16, device=DEVICE)
    x[0, -1, -1] = torch.arange(side, device=DEVICE) % 100
    flow = torch.zeros(1, 2, side, side, dtype=torch.float16, device=DEVICE)
    flow[:, 0] = 1
    warped, valid = functional.flow_warp(x, flow, backend="triton")
    assert torch.equal(warped[0, -1, -1, :-1], x[0, -1, -1, 1:])
    assert not warped[0, :-1, -1].any()
    assert valid.sum() == side * (side - 1)


@pytest.mark.usefixtures("_room")
def test_many_elements_are_pooled():
    pixels = 2**26
    features = torch.zeros(1, MANY // pixels + 1, pixels, dtype=torch.float16, device=DEVICE)
    features[0, -1, -5:] = 2
    labels = torch.zeros(1, pixels, dtype=torch.int64, device=DEVICE)
    labels[0, -5:] = 1
    weights = torch.ones(1, pixels, device=DEVICE, requires_grad=True)
    features.requires_grad_()
    sums, mass = functional.class_pool(features, labels, 2, weights=weights, backend="triton")
    assert mass[0].tolist() == pytest.approx([pixels - 5, 5], rel=1e-6)  # float32 does not count that far
    assert sums[0, 1].tolist() == [0] * (features.shape[1] - 1) + [10]
    to_features, to_weights = torch.autograd.grad(sums[0, 1, -1], (features, weights))
    assert to_features[0, -1, -6:].tolist() == [0, 1, 1, 1, 1, 1]
    assert to_weights[0, -6:].tolist() == [0, 2, 2, 2, 2, 2]


@pytest.mark.usefixtures("_room")
def test_many_pixels_are_labelled():
    logits = torch.tensor([[0.0, 2], [1, 0]], device=DEVICE).view(1, 2, 2, 1)
    labels, confidence = functional.pseudo_labels(logits, (MANY // 2**16 + 1, 2**16), backend="triton")
    assert labels[0, 0].eq(1).all()
    assert labels[0, -1].eq(0).all()
    torch.testing.assert_close(confidence[0, -1], logits[0, 0, 1].sub(logits[0, 1, 1]).sigmoid().expand(2**16))


@pytest.mark.usefixtures("_room")
def test_many_pixels_are_pasted():
    side = 2**14
    times = MANY // (3 * side**2) + 1
    frames = torch.zeros(1, times, 3, side, side, dtype=torch.float16, device=DEVICE)
    labels = torch.zeros(1, times, side, side, dtype=torch.int64, device=DEVICE)
    labels[0, -1, -1, -5:] = 1
    clip, mask = functional.clip_paste(
        Clip(frames + 1, labels), Clip(frames, labels), torch.tensor([[False, True]], device=DEVICE), backend="triton"
    )
    assert mask.sum() == 5
    assert clip.frames[0, -1, :, -1, -6:].tolist() == [[0, 1, 1, 1, 1, 1]] * 3
    assert clip.frames.sum(dtype=torch.float32) == 15


@pytest.mark.usefixtures("_room")
def test_many_pixels_are_compared():
    logits = torch.zeros(1, 2, 2, 2, device=DEVICE, requires_grad=True)
    labels = torch.full((1, MANY // 2**16 + 1, 2**16), 255, device=DEVICE)
    labels[0, -1, -5:] = 1
    total = functional.upsampled_cross_entropy(logits, labels, reduction="sum", backend="triton")
    mean = functional.upsampled_cross_entropy(logits, labels, backend="triton")
    torch.testing.assert_close(total, 5 * mean)
    torch.testing.assert_close(mean, torch.tensor(2.0, device=DEVICE).log())
    (grad,) = torch.autograd.grad(total, logits)
    torch.testing.assert_close(grad[0, :, 1, 1], torch.tensor([2.5, -2.5], device=DEVICE))
    assert not grad[0, :, 0].any()
