import pytest
import torch
from kernel_cases import (
    DEVICE,
    another,
    assert_agree,
    every_dtype,
    every_ignored,
    every_layout,
    far_apart,
    ignore,
    lay,
    run,
)

import dastc.ops.class_pool._triton as kernels
from dastc.functional import class_pool
from dastc.ops._backend import use_triton
from dastc.ops.class_pool.op import class_match_op, class_pool_op, class_spread_op


def _case(sizes, dtype=torch.float32, layout="contiguous", ignored=0.25):
    n, d, p, k = sizes
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(n, d, p, generator=rng).to(dtype)
    labels = ignore(torch.randint(0, k, (n, p), generator=rng), ignored)
    weights = torch.rand(n, p, generator=rng).to(dtype)
    up = torch.randn(n, k, d, generator=rng), torch.randn(n, k, generator=rng)
    inputs = {"features": lay(features, layout), "labels": lay(labels, layout)}
    inputs |= {"weights": lay(weights, another(layout))}
    return inputs, [x.to(DEVICE) for x in up]


def _assert_like_the_reference(inputs, up, **arguments):
    assert_agree(*(run(class_pool, backend, inputs, up, **arguments) for backend in ("triton", "torch")), atol=1e-4)


@every_dtype
@every_layout
@every_ignored
def test_equals_the_reference(dtype, layout, ignored):
    inputs, up = _case((2, 5, 37, 3), dtype, layout, ignored)
    _assert_like_the_reference(inputs, up, num_classes=3)


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1), (3, 1, 2, 5), (1, 17, 75, 7),  # more pixels than one program takes
        (2, 70, 9, 19),  # more features than one program takes
        (1, 3, 40, 256),
        (0, 3, 4, 5), (2, 3, 0, 5), (2, 0, 4, 5),
    ],
)  # fmt: skip
@pytest.mark.parametrize("weighted", [False, True])
def test_odd_sizes(sizes, weighted, monkeypatch):
    monkeypatch.setattr(kernels, "_LEAST_PIXELS", 32)
    monkeypatch.setattr(kernels, "_PIXELS_PER_CLASS", 1)
    inputs, up = _case(sizes)
    if not weighted:
        inputs["weights"] = None
    _assert_like_the_reference(inputs, up, num_classes=sizes[3])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    # neither half can add a small step to a large sum
    features = torch.full((1, 1, 301), 1 + 2**-7, dtype=dtype, device=DEVICE)
    labels = torch.zeros(1, 301, dtype=torch.int64, device=DEVICE)
    sums, mass = class_pool(features, labels, 1, weights=torch.ones_like(features[:, 0]), backend="triton")
    assert mass.item() == 301
    torch.testing.assert_close(sums.flatten(), torch.full((1,), 301 * (1 + 2**-7), device=DEVICE))


def test_the_weights_gradient_adds_up_in_float32():
    features = torch.full((1, 600, 1), 1 + 2**-7, dtype=torch.bfloat16, device=DEVICE)
    labels = torch.zeros(1, 1, dtype=torch.int64, device=DEVICE)
    weights = torch.ones(1, 1, device=DEVICE, requires_grad=True)
    sums, _ = class_pool(features, labels, 1, weights=weights, backend="triton")
    (grad,) = torch.autograd.grad(sums, weights, torch.ones_like(sums))
    torch.testing.assert_close(grad, torch.full_like(grad, 600 * (1 + 2**-7)))


def test_offsets_beyond_int32_are_reached():
    features, labels = far_apart(3, 2), torch.tensor([[0, 1]], device=DEVICE)
    features.copy_(torch.arange(6).view(1, 3, 2))
    sums, mass = class_pool_op(features, labels, None, 2, "triton")
    assert sums.tolist() == [[[0, 2, 4], [1, 3, 5]]]
    ones = torch.ones_like(sums)
    assert class_match_op(features, labels, ones, mass, torch.float32).tolist() == [[7, 10]]
    spread = class_spread_op(features, torch.tensor([[2, 0]], device=DEVICE), None, torch.float32)
    assert spread.tolist() == [[[4, 0], [5, 1]]]


def test_repeats_bit_for_bit(monkeypatch):
    monkeypatch.setattr(kernels, "_LEAST_PIXELS", 32)
    inputs, up = _case((2, 5, 101, 4))
    first, second = (run(class_pool, "triton", inputs, up, num_classes=4) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_nan_stays_in_its_channel_and_sample():
    inputs, _ = _case((2, 3, 37, 4))
    want = class_pool(**inputs, num_classes=4, backend="torch")[0]
    inputs["features"][1, 2, 0] = float("nan")
    sums = class_pool(**inputs, num_classes=4, backend="triton")[0]
    assert sums[1, :, 2].isnan().all()
    sums[1, :, 2] = want[1, :, 2]
    torch.testing.assert_close(sums, want)


def test_second_derivatives_equal_the_references():
    inputs, up = _case((1, 2, 5, 3))
    labels, seconds = inputs.pop("labels"), []
    for backend in ("triton", "torch"):
        leaves = [x.detach().requires_grad_() for x in (*inputs.values(), *up)]
        pooled = class_pool(leaves[0], labels, 3, weights=leaves[1], backend=backend)
        first = torch.autograd.grad(pooled, leaves[:2], leaves[2:], create_graph=True)
        rng = torch.Generator().manual_seed(1)
        second_up = [torch.randn(x.shape, generator=rng).to(DEVICE) for x in first]
        seconds.append(torch.autograd.grad(first, leaves, second_up))
    torch.testing.assert_close(*seconds)
    assert all(grad.any() for grad in seconds[0])


def test_registration_is_sound():
    inputs, (to_sums, to_mass) = _case((2, 3, 9, 4))
    features, labels, weights = inputs["features"].requires_grad_(), inputs["labels"], inputs["weights"]
    quick = ("test_schema", "test_faketensor")
    torch.library.opcheck(class_pool_op, (features, labels, None, 4, "triton"), test_utils=quick)
    weights.requires_grad_()
    torch.library.opcheck(class_pool_op, (features, labels, weights, 4, "triton"))
    torch.library.opcheck(class_spread_op, (to_sums, labels, weights, torch.bfloat16), test_utils=quick)
    torch.library.opcheck(class_match_op, (features, labels, to_sums, to_mass, torch.bfloat16), test_utils=quick)


def test_compiles_without_a_graph_break():
    inputs, up = _case((2, 3, 9, 4))
    compiled = torch.compile(class_pool, fullgraph=True, backend="aot_eager")
    found, want = (run(pool, "triton", inputs, up, num_classes=4) for pool in (compiled, class_pool))
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_sizes_beyond_the_kernel_are_refused_by_name():
    features, labels = torch.zeros(1, 4097, 2, device=DEVICE), torch.zeros(1, 2, dtype=torch.int64, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"^class_pool: backend='triton' needs D of at most 4096; got 4097\. "):
        class_pool(features, labels, 2, backend="triton")
    with pytest.raises(RuntimeError, match=r"^class_pool: backend='triton' needs K of at most 256; got 257\. "):
        class_pool(features[:, :2], labels, 257, backend="triton")
    assert use_triton("class_pool", "class_pool", "triton", features, {"D": 4096, "K": 256})
