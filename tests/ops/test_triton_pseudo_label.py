import pytest
import torch
from kernel_cases import DEVICE, LAYOUTS, another, every_dtype, every_layout, far_apart, lay

from dastc.functional import pseudo_labels
from dastc.ops.pseudo_label.op import pseudo_label_op

FORMS = ["own", "flow", "both"]


def _case(sizes, form="both", dtype=torch.float32, layout="contiguous"):
    n, k, h, w, height, width = sizes
    rng = torch.Generator().manual_seed(0)
    logits, previous = ((torch.randn(n, k, h, w, generator=rng) * 3).to(dtype) for _ in range(2))
    flow = torch.randn(n, 2, height, width, generator=rng) * 2  # some points lie outside
    given = {"logits": lay(logits, layout), "size": (height, width)}
    given |= {"flow": lay(flow, layout)} if form != "own" else {}
    return given | ({"previous": lay(previous, another(layout))} if form == "both" else {})


def _assert_like_the_reference(given, atol=1e-5):
    found, want = (pseudo_labels(**given, backend=backend) for backend in ("triton", "torch"))
    torch.testing.assert_close(found.confidence, want.confidence, atol=atol, rtol=1e-5, equal_nan=True)
    assert torch.equal(found.labels, want.labels)


@every_dtype
@every_layout
@pytest.mark.parametrize("form", FORMS)
def test_equals_the_reference(form, dtype, layout):
    _assert_like_the_reference(_case((2, 3, 2, 3, 3, 5), form, dtype, layout))


@pytest.mark.parametrize(("form", "layout"), list(zip(FORMS, LAYOUTS, strict=True)))
def test_the_confidence_by_entropy_equals_the_references(form, layout):
    _assert_like_the_reference(_case((2, 3, 2, 3, 3, 5), form, layout=layout) | {"confidence": "entropy"})


@pytest.mark.parametrize("layout", ["contiguous", "sliced"])
@pytest.mark.parametrize("form", FORMS)
def test_noise_moves_the_labels_as_in_the_reference(form, layout):
    given = _case((2, 3, 2, 3, 3, 5), form)
    if form != "own":
        given["flow"].mul_(0.2)  # so that most points lie inside
    for cells in ((1, 1), (2, 3)):  # fewer cells than pixels, and as many rows as logits
        noise = lay(torch.rand(2, 3, *cells, generator=torch.Generator().manual_seed(1)) * 4, layout)
        found, want = (pseudo_labels(**given, noise=noise, backend=backend) for backend in ("triton", "torch"))
        torch.testing.assert_close(found.confidence, want.confidence, atol=1e-5, rtol=1e-5)
        assert torch.equal(found.labels, want.labels)
    plain = pseudo_labels(**given, backend="torch")
    assert not torch.equal(found.labels, plain.labels)
    torch.testing.assert_close(found.confidence, plain.confidence, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("classes", [1, 2, 33])
def test_entropy_of_few_and_many_classes(classes):
    given = _case((1, classes, 1, 2, 1, 5)) | {"confidence": "entropy"}
    given["logits"][0, 0, 0, 1] = 1e4  # the others have a probability of exactly 0
    _assert_like_the_reference(given)
    alike = pseudo_labels(torch.zeros(1, classes, 1, 1, device=DEVICE), (1, 2), confidence="entropy", backend="triton")
    assert alike.confidence.tolist() == [[pytest.approx([float(classes == 1)] * 2, abs=1e-6)]]
    assert 0 <= alike.confidence.min() <= alike.confidence.max() <= 1


@pytest.mark.parametrize(
    "sizes",
    [
        (1, 1, 1, 1, 1, 1), (1, 3, 1, 1, 3, 4), (1, 3, 4, 5, 1, 1),
        (1, 4, 3, 5, 3, 5), (1, 2, 3, 5, 2, 3),
        (1, 3, 1, 9, 2, 300), (1, 2, 1, 130, 1, 128), (1, 2, 1, 5, 1, 129),  # as many columns as a program takes, more
        (1, 65, 1, 2, 1, 9), (1, 33, 1, 2, 1, 5), (2, 7, 2, 3, 3, 4),
        (0, 3, 2, 2, 4, 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", FORMS)
def test_odd_sizes(sizes, form):
    # the reference rounds where a column lies, by more the wider the picture is; the kernel does not
    _assert_like_the_reference(_case(sizes, form), atol=1e-5 * max(1, sizes[5] / 15))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("form", ["flow", "both"])
def test_flow_that_leads_nowhere(value, form):
    given = _case((1, 3, 2, 3, 4, 5), form)
    given["flow"][0, :, 1, 2] = value
    _assert_like_the_reference(given)


@pytest.mark.filterwarnings("ignore:All-NaN slice")  # NumPy's, in the interpreter
def test_nan_gives_nan_confidence_and_a_label_in_range():
    given = _case((1, 3, 2, 3, 4, 6), "own")
    given["logits"][0, 1, 0, 0] = float("nan")
    found, want = (pseudo_labels(**given, backend=backend) for backend in ("triton", "torch"))
    assert torch.equal(found.confidence.isnan(), want.confidence.isnan())
    entropy = pseudo_labels(**given, confidence="entropy", backend="triton").confidence
    assert torch.equal(entropy.isnan(), want.confidence.isnan())
    assert found.confidence.isnan().any()
    assert found.labels.min() >= 0
    assert found.labels.max() < 3


@pytest.mark.filterwarnings("ignore:invalid value")  # NumPy's, where the interpreter meets inf - inf
@pytest.mark.parametrize("confidence", ["probability", "entropy"])
@pytest.mark.parametrize("form", FORMS)
def test_infinite_logits_are_the_references(form, confidence):
    given = _case((1, 3, 2, 8, 2, 8), form) | {"confidence": confidence}  # nothing is mixed, so that 0 * inf is nowhere
    if form != "own":
        given["flow"].zero_()
    infinity = float("inf")
    given["logits"][0, 0, :, 1] = -infinity
    given["logits"][0, 1:, :, 3] = -infinity
    given["logits"][0, :, 0, 5] = -infinity
    given["logits"][0, 1, 0, 7] = infinity
    _assert_like_the_reference(given)
    assert pseudo_labels(**given, backend="triton").confidence.isnan().any()


@pytest.mark.parametrize("form", ["flow", "both"])
def test_nan_reaches_only_what_is_seen(form):
    given = _case((1, 3, 1, 6, 1, 6), form)
    given["flow"].zero_()
    given["flow"][0, 0, 0, 2:] = 100
    given["logits" if form == "flow" else "previous"][:] = float("nan")
    found = pseudo_labels(**given, backend="triton")
    _assert_like_the_reference(given)
    assert found.confidence[0, 0, :2].isnan().all()
    assert found.confidence[0, 0, 2:].isfinite().all() == (form == "both")


def test_equal_classes_give_the_first():
    logits = torch.zeros(1, 5, 1, 1, device=DEVICE)
    logits[0, :2] = -1
    flow = torch.full((1, 2, 2, 2), 0.3, device=DEVICE)
    for given in ({}, {"flow": flow}, {"flow": flow, "previous": logits}):
        found = pseudo_labels(logits, (2, 2), **given, backend="triton")
        seen = found.confidence > 0
        assert seen.any()
        assert torch.equal(found.labels, torch.where(seen, 2, 0))


def test_large_logits_do_not_overflow():
    given = _case((1, 3, 2, 3, 3, 4))
    given["logits"] *= 1e3
    _assert_like_the_reference(given)


def test_offsets_beyond_int32_are_reached():
    logits = far_apart(3, 2).view(1, 3, 1, 2).copy_(torch.tensor([[0.0, 1], [2, 3], [5, 0]]).view(1, 3, 1, 2))
    flow = torch.zeros(1, 2, 1, 2, device=DEVICE)
    for form in (None, flow):
        found, want = (
            pseudo_labels(x, (1, 2), flow=form, backend=backend)
            for x, backend in ((logits, "triton"), (logits.clone(), "torch"))
        )
        torch.testing.assert_close(found, want)
        assert found.labels.tolist() == [[[2, 1]]]


def test_samples_beyond_int32_are_reached():
    scores = torch.tensor([[0.0, 1], [3, 2], [1, 5]])
    logits = far_apart(3, 2).view(3, 2, 1, 1).copy_(scores.view(3, 2, 1, 1))
    for form in (None, torch.zeros(3, 2, 1, 1, device=DEVICE)):
        found, want = (
            pseudo_labels(x, (1, 1), flow=form, previous=None if form is None else x, backend=backend)
            for x, backend in ((logits, "triton"), (logits.clone(), "torch"))
        )
        torch.testing.assert_close(found, want)
        assert found.labels.flatten().tolist() == [1, 0, 1]


def test_offsets_of_what_comes_along_the_flow_beyond_int32_are_reached():
    logits = torch.randn(1, 3, 1, 2, dtype=torch.float16, device=DEVICE)
    flow = torch.tensor([[0.25, -0.5], [0.0, 0.0]], dtype=torch.float16, device=DEVICE).view(1, 2, 1, 2)
    earlier = far_apart(3, 2).view(1, 3, 1, 2).copy_(logits.flip(1))
    far = far_apart(2, 2).view(1, 2, 1, 2).copy_(flow)
    for given in ((flow, earlier), (far, logits.flip(1))):
        found, want = (
            pseudo_labels(logits, (1, 2), flow=x, previous=y, backend=backend)
            for x, y, backend in ((*given, "triton"), (*(v.clone() for v in given), "torch"))
        )
        torch.testing.assert_close(found, want)


def test_registration_is_sound():
    logits, size, flow, previous = _case((1, 3, 2, 2, 3, 4)).values()
    quick = ("test_schema", "test_faketensor")  # there is no gradient to check
    torch.library.opcheck(pseudo_label_op, (logits, flow, previous, *size, True, "triton"), test_utils=quick)


def test_compiles_without_a_graph_break():
    given = _case((1, 3, 2, 2, 3, 4))
    compiled = torch.compile(pseudo_labels, fullgraph=True, backend="aot_eager")
    found, want = (label(**given, backend="triton") for label in (compiled, pseudo_labels))
    torch.testing.assert_close(found, want, rtol=0, atol=0)
