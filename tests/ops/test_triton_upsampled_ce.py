import math

import pytest
import torch
from kernel_cases import (
    DEVICE,
    another,
    assert_agree,
    every_dtype,
    every_ignored,
    every_layout,
    every_pair,
    far_apart,
    ignore,
    lay,
    on_a_gpu,
    run,
)
from torch.utils._python_dispatch import TorchDispatchMode

import dastc.ops.upsampled_ce._triton as kernels
from dastc.functional import upsampled_cross_entropy
from dastc.ops.upsampled_ce.op import upsampled_ce_backward_op, upsampled_ce_op, upsampled_ce_sum_op


def _case(sizes, dtype=torch.float32, layout="contiguous", ignored=0.25):
    n, k, h, w, height, width = sizes
    rng = torch.Generator().manual_seed(0)
    logits = (torch.randn(n, k, h, w, generator=rng) * 3).to(dtype)
    labels = ignore(torch.randint(0, k, (n, height, width), generator=rng), ignored)
    weights = torch.rand(n, height, width, generator=rng).masked_fill((labels < 0) | (labels >= k), float("nan"))
    inputs = {"logits": lay(logits, layout), "labels": lay(labels, layout), "weights": lay(weights, another(layout))}
    return inputs, [torch.randn(n, height, width, generator=rng).to(DEVICE)]


def _both(inputs, up, **arguments):
    return (run(upsampled_cross_entropy, backend, inputs, up, **arguments) for backend in ("triton", "torch"))


@every_dtype
@every_layout
@every_ignored
def test_equals_the_reference(dtype, layout, ignored):
    inputs, up = _case((2, 3, 2, 3, 3, 4), dtype, layout, ignored)
    assert_agree(*_both(inputs, up, reduction="none"))


@every_pair
def test_the_mean_equals_the_references(dtype, layout, ignored):
    inputs, _ = _case((2, 3, 2, 3, 3, 5), dtype, layout, ignored)
    found, want = _both(inputs, [torch.tensor(1.5, device=DEVICE)])
    assert (found[0] > 0) == (ignored < 1)
    assert_agree(found, want)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_class_may_be_ignored(reduction):
    inputs, up = _case((1, 4, 2, 3, 3, 5))
    inputs["weights"] = inputs["weights"].masked_fill(inputs["labels"] == 2, float("nan"))
    up = up if reduction == "none" else [torch.tensor(1.5, device=DEVICE)]
    found, want = _both(inputs, up, reduction=reduction, ignore_index=2)
    assert all(x.isfinite().all() for x in found)
    assert_agree(found, want)


def test_labels_outside_the_classes_are_not_counted():
    inputs, _ = _case((1, 3, 2, 3, 4, 5), ignored=0.0)
    inputs["labels"][0, 0, :4] = torch.tensor([3, -1, 300, 255], device=DEVICE)
    _, count = upsampled_ce_sum_op(*inputs.values(), 255, "triton")
    assert count == inputs["labels"].numel() - 4


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_need_not_be_given(reduction):
    inputs, up = _case((2, 3, 2, 3, 3, 5))
    inputs["weights"] = None
    assert_agree(*_both(inputs, up if reduction == "none" else [up[0].sum()], reduction=reduction))


def test_weights_may_have_a_dtype_of_their_own():
    inputs, _ = _case((1, 3, 2, 3, 3, 5), torch.float16)
    for dtype in (torch.bfloat16, torch.float64):
        given = inputs | {"weights": inputs["weights"].to(dtype)}
        assert_agree(*_both(given, [torch.tensor(1.5, device=DEVICE)]))


@pytest.mark.parametrize("sizes", [(1, 2, 1, 17, 2, 300), (1, 256, 1, 2, 2, 9), (0, 3, 2, 2, 4, 4)])
def test_the_sum_of_odd_sizes(sizes):
    inputs, _ = _case(sizes)
    assert_agree(*_both(inputs, [torch.tensor(1.5, device=DEVICE)], reduction="sum"), atol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1, 1, 1), (2, 3, 1, 1, 5, 4), (1, 3, 4, 5, 1, 1),
        (1, 2, 3, 4, 3, 4), (1, 2, 3, 5, 3, 8), (1, 2, 2, 5, 5, 5),  # nothing to resize, on one axis or on both
        (1, 2, 2, 2, 6, 6),  # some pixels lie on those of the logits
        (1, 3, 5, 7, 2, 3), (1, 2, 5, 3, 2, 7),  # smaller, on one axis or on both
        (1, 2, 1, 17, 2, 300), (1, 2, 1, 9, 1, 128), (1, 1, 2, 9, 1, 129),  # as many columns as a program takes, more
        (1, 2, 1, 140, 1, 150),
        (1, 65, 1, 2, 2, 9), (1, 33, 1, 2, 2, 5), (2, 8, 2, 1, 3, 2), (2, 9, 2, 2, 3, 5),  # classes, in groups of 8
        (0, 3, 2, 2, 4, 4),
    ],
)  # fmt: skip
def test_odd_sizes(sizes):
    inputs, up = _case(sizes)
    # the reference rounds where a column lies, by more the wider the picture is; the kernel does not
    assert_agree(*_both(inputs, up, reduction="none"), atol=1e-5 * max(1, sizes[5] / 30))


class _Largest(TorchDispatchMode):
    """Remember the largest tensor that was made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and "empty" in func.name():
            self.numel = max(self.numel, out.numel())
        return out


def test_the_sum_makes_no_map_at_full_size():
    inputs, _ = _case((2, 3, 2, 3, 6, 100))
    with _Largest() as made:
        kernels.upsampled_ce_sum_triton(*inputs.values(), 255)
    assert 0 < made.numel <= 2 * 6 * 2


def test_the_gradient_makes_no_map_with_all_classes_at_full_size():
    inputs, (up,) = _case((2, 5, 2, 3, 8, 24))
    with _Largest() as made:
        kernels.upsampled_ce_backward_triton(up, *inputs.values(), 255)
    assert 0 < made.numel <= 2 * 5 * 2 * 24  # all classes on the logits' rows, or one number for each pixel


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, where the interpreter meets inf - inf
def test_the_gradient_is_not_a_number_just_where_the_loss_is_not(value):
    inputs, (up,) = _case((1, 3, 4, 5, 8, 10), ignored=0.0)
    inputs["logits"][0, 1, 0, 0] = value
    found = upsampled_ce_backward_op(up, inputs["logits"], inputs["labels"], None, 255, "triton")
    near = torch.zeros(4, 5, dtype=torch.bool, device=DEVICE)
    near[:2, :2] = True  # what shares a pixel with it
    assert torch.equal(found.isnan(), near.expand(1, 3, -1, -1))


def test_an_ignored_pixel_contributes_nothing_even_if_it_is_not_a_number():
    inputs, up = _case((2, 3, 4, 6, 8, 12), ignored=0.0)
    want = run(upsampled_cross_entropy, "triton", inputs, up, reduction="none")
    inputs["labels"][:, 2:6, 4:10] = 255  # all that the logits at (1, 2, 3) can reach, twice as large, lies in there
    clean = run(upsampled_cross_entropy, "triton", inputs, up, reduction="none")
    inputs["logits"][:, :, 2, 3] = float("nan")
    inputs["labels"][:, 3:7, 5:9] = 255
    found = run(upsampled_cross_entropy, "triton", inputs, up, reduction="none")
    assert not torch.equal(clean[0], want[0])
    for x in found:
        assert x.isfinite().all()
    assert not found[1][:, :, 2, 3].any()


def test_a_gradient_that_is_not_a_number_stays_away_from_ignored_pixels():
    inputs, (up,) = _case((1, 3, 4, 5, 8, 10), ignored=0.0)
    inputs["labels"][:, :, 6:] = 255
    up[:, :, 6:] = float("nan")
    op = upsampled_ce_backward_op(up, inputs["logits"], inputs["labels"], None, 255, "triton")
    assert op.isfinite().all()
    assert op.any()


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, where the interpreter meets inf - inf
def test_nan_and_infinities_are_the_references():
    inputs, _ = _case((1, 3, 3, 4, 6, 9), ignored=0.0)
    inputs["logits"][0, 0, 0, 0] = float("nan")
    inputs["logits"][0, 1, 2, 3] = float("inf")
    found, want = (
        upsampled_ce_op(inputs["logits"], inputs["labels"], None, 255, backend) for backend in ("triton", "torch")
    )
    torch.testing.assert_close(found, want, equal_nan=True)


def test_large_logits_do_not_overflow():
    inputs, up = _case((1, 4, 2, 3, 4, 5))
    inputs["logits"] *= 1e4
    assert_agree(*_both(inputs, up, reduction="none"))


def test_gradients_add_up_in_float32():
    # many pixels share one logit: no half could add them up
    logits = torch.zeros(1, 2, 1, 1, dtype=torch.bfloat16, device=DEVICE)
    labels = torch.zeros(1, 24, 25, dtype=torch.int64, device=DEVICE)
    grad = upsampled_ce_backward_op(torch.ones(1, 24, 25, device=DEVICE), logits, labels, None, 255, "triton")
    assert grad.flatten().tolist() == [-300, 300]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_add_up_in_float32(dtype):
    logits = torch.zeros(1, 2, 1, 1, dtype=dtype, device=DEVICE)
    labels = torch.zeros(1, 3, 201, dtype=torch.int64, device=DEVICE)
    weights = torch.full((1, 3, 201), 1 + 2**-7, dtype=dtype, device=DEVICE)
    total, count = upsampled_ce_sum_op(logits, labels, weights, 255, "triton")
    torch.testing.assert_close(total, torch.tensor(603 * (1 + 2**-7) * math.log(2), device=DEVICE))
    assert count == 603


# int64 labels would take 17 GB of address space, which not every machine without a GPU gives
@pytest.mark.parametrize("which", [pytest.param("labels", marks=on_a_gpu), "weights"])
def test_offsets_of_labels_and_weights_beyond_int32_are_reached(which):
    inputs, (up,) = _case((1, 3, 2, 2, 3, 2), ignored=0.0)
    near = inputs["weights"].half()
    far = far_apart(3, 2).copy_(near)
    if which == "labels":
        near, far = inputs["labels"], far_apart(3, 2, dtype=torch.int64).copy_(inputs["labels"])
    results = []
    for x, backend in ((far, "triton"), (near, "torch")):
        given = (*(inputs | {which: x}).values(), 255, backend)
        results.append((*upsampled_ce_sum_op(*given), upsampled_ce_op(*given), upsampled_ce_backward_op(up, *given)))
    assert_agree(*results)


def test_offsets_of_the_upstream_gradient_beyond_int32_are_reached():
    inputs, (up,) = _case((1, 3, 2, 2, 3, 2))
    far, given = far_apart(3, 2).copy_(up), (*inputs.values(), 255)
    want = upsampled_ce_backward_op(up.half().float(), *given, "torch")
    assert_agree([upsampled_ce_backward_op(far, *given, "triton")], [want])


def test_offsets_beyond_int32_are_reached():
    logits = far_apart(3, 2).view(1, 3, 1, 2).copy_(torch.tensor([[0.0, 1], [2, 3], [5, 4]]).view(1, 3, 1, 2))
    labels = torch.tensor([[[0, 1], [2, 1]]], device=DEVICE)
    near, up = logits.clone(), torch.rand(1, 2, 2, device=DEVICE)
    torch.testing.assert_close(
        upsampled_ce_op(logits, labels, None, 255, "triton"), upsampled_ce_op(near, labels, None, 255, "torch")
    )
    torch.testing.assert_close(
        upsampled_ce_backward_op(up, logits, labels, None, 255, "triton"),
        upsampled_ce_backward_op(up, near, labels, None, 255, "torch"),
    )


def test_samples_beyond_int32_are_reached():
    logits = far_apart(3, 2).view(3, 2, 1, 1).copy_(torch.tensor([[0.0, 1], [3, 2], [1, 5]]).view(3, 2, 1, 1))
    labels, near = torch.tensor([0, 1, 1], device=DEVICE).view(3, 1, 1), logits.clone()
    up = torch.tensor([1.0, 2, 3], device=DEVICE).view(3, 1, 1)
    results = [
        (upsampled_ce_op(x, labels, None, 255, backend), upsampled_ce_backward_op(up, x, labels, None, 255, backend))
        for x, backend in ((logits, "triton"), (near, "torch"))
    ]
    assert_agree(*results)


def test_the_upstream_gradient_may_have_any_strides():
    inputs, (up,) = _case((2, 3, 2, 3, 3, 4))
    near = upsampled_ce_backward_op(up, inputs["logits"], inputs["labels"], None, 255, "triton")
    for other in (lay(up, "channels_last"), lay(up, "sliced")):
        assert torch.equal(
            upsampled_ce_backward_op(other, inputs["logits"], inputs["labels"], None, 255, "triton"), near
        )
    one = up[:1, :1, :1].expand(up.shape)
    found, want = (
        upsampled_ce_backward_op(one, inputs["logits"], inputs["labels"], None, 255, backend)
        for backend in ("triton", "torch")
    )
    torch.testing.assert_close(found, want)


def test_repeats_bit_for_bit():
    inputs, up = _case((2, 3, 2, 3, 3, 4))
    first, second = (run(upsampled_cross_entropy, "triton", inputs, up, reduction="none") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_registration_is_sound():
    inputs, (up,) = _case((1, 3, 2, 2, 3, 4))
    logits, labels = inputs["logits"], inputs["labels"]
    torch.library.opcheck(
        upsampled_ce_backward_op,
        (up, logits, labels, None, 255, "triton"),
        test_utils=("test_schema", "test_faketensor"),
    )
    weights = inputs["weights"].nan_to_num(0).requires_grad_()
    for op in (upsampled_ce_op, upsampled_ce_sum_op):
        torch.library.opcheck(op, (logits.requires_grad_(), labels, weights, 255, "triton"))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_without_a_graph_break(reduction):
    inputs, up = _case((1, 3, 2, 2, 3, 4))
    up = up if reduction == "none" else [up[0].sum()]
    compiled = torch.compile(upsampled_cross_entropy, fullgraph=True, backend="aot_eager")
    found, want = (run(f, "triton", inputs, up, reduction=reduction) for f in (compiled, upsampled_cross_entropy))
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_more_classes_than_the_kernel_takes_are_refused():
    logits, labels = torch.zeros(1, 257, 1, 1, device=DEVICE), torch.zeros(1, 1, 1, dtype=torch.int64, device=DEVICE)
    with pytest.raises(RuntimeError, match=r"^upsampled_cross_entropy: backend='triton' needs K of at most 256; got 2"):
        upsampled_cross_entropy(logits, labels, backend="triton")
    upsampled_cross_entropy(logits, labels)
