import pytest
import torch
from kernel_cases import DEVICE, IGNORED, another, assert_agree, every_dtype, every_layout, far_apart, lay, run

import dastc.ops.centroid_kernel._triton as kernels
from dastc.ops._backend import use_triton
from dastc.ops.centroid_kernel import centroid_kernel
from dastc.ops.centroid_kernel.op import centroid_kernel_backward_op, centroid_kernel_op


def _case(sizes=(4, 7), dtype=torch.float32, layout="contiguous", absent=0.25):
    k, d = sizes
    rng = torch.Generator().manual_seed(0)
    source, target = torch.randn(2, k, d, generator=rng).to(dtype)
    present = torch.arange(k) >= round(absent * k)
    present = present[torch.randperm(k, generator=rng)]
    # rows of absent classes are never read into a result
    source[~present], target[~present] = float("nan"), float("inf")
    up = torch.randn(2 * k, 2 * k, generator=rng)
    up[~present.repeat(2)] = float("nan")
    inputs = {"source": lay(source, layout), "target": lay(target, another(layout)), "present": lay(present, layout)}
    return inputs, [lay(up, layout)]


def _assert_like_the_reference(inputs, up, atol=1e-5, **arguments):
    found, want = (run(centroid_kernel, backend, inputs, up, **arguments) for backend in ("triton", "torch"))
    assert_agree(found, want, atol=atol)
    return found


@every_dtype
@every_layout
@pytest.mark.parametrize("absent", IGNORED)
def test_equals_the_reference(dtype, layout, absent):
    inputs, up = _case((4, 7), dtype, layout, absent)
    kernel, *grads = _assert_like_the_reference(inputs, up)
    both = inputs["present"].repeat(2)
    assert not kernel[~both].any()
    assert not kernel[:, ~both].any()
    assert torch.equal(kernel, kernel.T)
    for grad in grads:
        assert not grad[~inputs["present"]].any()
        assert grad[inputs["present"]].any() == (absent < 1)


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1), (1, 9), (6, 1), (4, 64), (4, 5), (3, 65),
        (9, 130),  # more rows, and more columns, than one program takes
    ],
)  # fmt: skip
def test_odd_sizes(sizes):
    _assert_like_the_reference(*_case(sizes))


@pytest.mark.parametrize(("factor", "count"), [(2.0, 1), (3.0, 4), (1.5, 6)])
def test_any_bandwidths(factor, count):
    _assert_like_the_reference(*_case(), factor=factor, count=count)


def test_as_many_classes_as_there_may_be(monkeypatch):
    monkeypatch.setattr(kernels, "_TILE", {"BLOCK_R": 128, "BLOCK_D": 4})
    _assert_like_the_reference(*_case((256, 3)), atol=1e-4)  # a gradient has 512 terms of either sign


@pytest.mark.parametrize("here", [0, 1, 2])
def test_few_classes_present(here):
    inputs, up = _case(absent=1 - here / 4)
    assert inputs["present"].sum() == here
    _assert_like_the_reference(inputs, up)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 2, 6])
def test_equal_rows_have_a_full_kernel_and_no_gradient(classes, dtype):
    x = (torch.randn(1, 70, device=DEVICE) * 30).to(dtype).expand(classes, 70)
    inputs = {"source": x, "target": x, "present": torch.ones(classes, dtype=torch.bool, device=DEVICE)}
    kernel, *grads = run(centroid_kernel, "triton", inputs, [torch.randn(2 * classes, 2 * classes, device=DEVICE)])
    assert torch.equal(kernel, torch.full_like(kernel, 5))
    assert not any(grad.any() for grad in grads)


def test_what_all_rows_share_does_not_cost_precision():
    rng = torch.Generator().manual_seed(0)
    rows = (100 + torch.randn(2, 6, 64, generator=rng) / 50).to(DEVICE)
    present, up = torch.ones(6, dtype=torch.bool, device=DEVICE), torch.randn(12, 12, generator=rng).to(DEVICE)
    results = []
    for dtype, backend in ((torch.float32, "triton"), (torch.float64, "torch")):
        source, target = rows.to(dtype)
        results.append(run(centroid_kernel, backend, {"source": source, "target": target, "present": present}, [up]))
    for found, want in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), want, rtol=0, atol=1e-5 * float(want.detach().abs().max()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_storage_only(dtype):
    # neither half can add a small step to a large sum, nor hold the square of its own values
    source = torch.full((2, 600), 1 + 2**-7, dtype=dtype, device=DEVICE)
    target = torch.zeros(2, 600, dtype=dtype, device=DEVICE)
    source[1, ::3], target[1, ::2] = 2, 1 + 2**-6
    given = {"present": torch.ones(2, dtype=torch.bool, device=DEVICE)}
    found = centroid_kernel(source, target, **given, backend="triton")
    want = centroid_kernel(source.double(), target.double(), **given, backend="torch")
    torch.testing.assert_close(found.double(), want, rtol=2e-6, atol=0)


def test_the_gradient_adds_up_in_float32():
    # 15 rows at 0 pull at one: more than a half could add up to within its own last digit
    source = torch.zeros(8, 1, dtype=torch.bfloat16, device=DEVICE)
    source[0] = 1
    inputs = {"source": source, "target": torch.zeros_like(source)}
    inputs |= {"present": torch.ones(8, dtype=torch.bool, device=DEVICE)}
    up = [torch.ones(16, 16, device=DEVICE)]
    found = run(centroid_kernel, "triton", inputs, up)
    want = run(centroid_kernel, "torch", {k: x.double() if k != "present" else x for k, x in inputs.items()}, up)
    assert found[1][0].item() == want[1][0].bfloat16().item()


def test_a_number_that_is_none_reaches_all_that_is_present_and_nothing_else():
    inputs, _ = _case()
    first = int(inputs["present"].int().argmax())
    inputs["source"][first, 2] = float("nan")
    found, want = (centroid_kernel(**inputs, backend=backend) for backend in ("triton", "torch"))
    both = inputs["present"].repeat(2)
    assert torch.equal(found.isnan(), both[:, None] & both)
    assert_agree([found], [want])


def test_the_two_sets_may_differ_in_dtype():
    inputs, up = _case()
    inputs["source"], inputs["target"] = inputs["source"].half(), inputs["target"].double()
    found = _assert_like_the_reference(inputs, up)
    assert [x.dtype for x in found] == [torch.float32, torch.float16, torch.float64]


def test_the_upstream_gradient_may_have_any_strides():
    inputs, (up,) = _case(absent=0.0)
    near = run(centroid_kernel, "triton", inputs, [up])
    for other in (up.T.contiguous().T, lay(up, "sliced")):
        assert all(
            torch.equal(*pair) for pair in zip(run(centroid_kernel, "triton", inputs, [other]), near, strict=True)
        )
    _assert_like_the_reference(inputs, [up[:1, :1].expand(up.shape)])
    _assert_like_the_reference(inputs, [up[:1].expand(up.shape)])


def test_offsets_beyond_int32_are_reached():
    far = far_apart(3, 2)[0].copy_(torch.tensor([[0.0, 1], [4, 2], [-3, 5]]))
    near, present = far.clone() / 2, torch.tensor([True, False, True], device=DEVICE)
    up = torch.randn(6, 6, device=DEVICE)
    for rows in ((far, near), (near, far)):
        found = centroid_kernel_op(*rows, present, 2.0, 5, "triton")
        copies = [x.clone().requires_grad_() for x in rows]
        want = centroid_kernel_op(*copies, present, 2.0, 5, "torch")
        assert_agree([found], [want.detach()])
        grads = centroid_kernel_backward_op(up, *rows, present, 2.0, 5)
        assert_agree(grads, torch.autograd.grad(want, copies, up))


def test_offsets_beyond_int32_are_reached_in_the_gradient():
    inputs, _ = _case((1, 2), absent=0.0)
    far = far_apart(2, 2)[0].copy_(torch.tensor([[1.0, 2], [3, 4]]))
    found = run(centroid_kernel, "triton", inputs, [far])
    assert_agree(found, run(centroid_kernel, "torch", inputs, [far.clone()]))


def test_repeats_bit_for_bit():
    inputs, up = _case((5, 70))
    first, second = (run(centroid_kernel, "triton", inputs, up) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_second_derivatives_are_the_references():
    inputs, (up,) = _case(absent=0.0)
    present, seconds = inputs.pop("present"), []
    for backend in ("triton", "torch"):
        rows = [x.detach().requires_grad_() for x in inputs.values()]
        kernel = centroid_kernel(*rows, present, backend=backend)
        grads = torch.autograd.grad(kernel, rows, up, create_graph=True)
        rng = torch.Generator().manual_seed(1)
        directions = [torch.randn(x.shape, generator=rng).to(DEVICE) for x in rows]
        seconds.append(torch.autograd.grad(grads, rows, directions))
    torch.testing.assert_close(*seconds)
    assert all(grad.any() for grad in seconds[0])


def test_the_gradient_is_fused(monkeypatch):
    inputs, up = _case()
    calls = []

    def count(*arguments):
        calls.append(arguments)
        return launch(*arguments)

    launch = kernels.centroid_kernel_backward_triton
    monkeypatch.setattr(kernels, "centroid_kernel_backward_triton", count)
    run(centroid_kernel, "triton", inputs, up)
    assert len(calls) == 1


def test_registration_is_sound():
    inputs, (up,) = _case((3, 2), absent=0.0)
    source, target, present = inputs.values()
    quick = ("test_schema", "test_faketensor")
    for given in ((source, target), (source.half(), target.bfloat16())):
        torch.library.opcheck(centroid_kernel_backward_op, (up, *given, present, 2.0, 5), test_utils=quick)
    rows = source.requires_grad_(), target.requires_grad_()
    torch.library.opcheck(centroid_kernel_op, (*rows, present, 2.0, 5, "triton"))


def test_compiles_without_a_graph_break():
    inputs, up = _case()
    compiled = torch.compile(centroid_kernel, fullgraph=True, backend="aot_eager")
    found, want = (run(f, "triton", inputs, up) for f in (compiled, centroid_kernel))
    torch.testing.assert_close(found, want, rtol=0, atol=0)


def test_sizes_beyond_the_kernel_are_refused_by_name():
    for sizes, text in (((257, 2), "K of at most 256; got 257"), ((2, 4097), "D of at most 4096; got 4097")):
        x, present = torch.zeros(sizes, device=DEVICE), torch.ones(sizes[0], dtype=torch.bool, device=DEVICE)
        with pytest.raises(RuntimeError, match=rf"^centroid_kernel: backend='triton' needs {text}\. "):
            centroid_kernel(x, x, present, backend="triton")
    assert use_triton("centroid_kernel", "centroid_kernel", "triton", x, {"K": 256, "D": 4096})
