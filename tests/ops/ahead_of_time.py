"""Compile fused kernels for GPUs that are not there, as their launches would; print what they need, as JSON.

    python ahead_of_time.py OPERATOR ARCHITECTURE ...

A launch is run on meta tensors with Triton's own launch replaced by a compilation for the target, so that signature
and block sizes are those of a real call. This is a process of its own: in the tests' one, kernels are interpreted.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

CASES = {}
TYPES = {
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.int64: "*i64", torch.bool: "*i1", torch.uint8: "*u8", torch.int16: "*i16", torch.int32: "*i32",
}  # fmt: skip


def case(run):
    CASES[run.__name__] = run
    return run


def empty(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="meta")


def integers(*shape):
    return empty(*shape, dtype=torch.int64)


def single(*shape):
    return empty(*shape, dtype=torch.float32)


@case
def flow_warp():
    from dastc.ops.flow_warp._triton import flow_warp_backward_triton, flow_warp_triton

    x, flow, share = empty(8, 256, 65, 129), single(8, 2, 65, 129), single(8, 65, 129)
    for other, given in ((None, None), (x, None), (x, share)):
        warped, _ = flow_warp_triton(x, flow, other, given)
    flow_warp_backward_triton(warped, x, flow, None, blended=False)
    flow_warp_backward_triton(warped, x, flow, share, blended=True)
    torch.use_deterministic_algorithms(True)
    flow_warp_backward_triton(warped, x, flow, share, blended=True)


@case
def class_pool():
    from dastc.ops.class_pool._triton import class_match_triton, class_pool_triton, class_spread_triton

    labels, weights = integers(8, 65 * 129), single(8, 65 * 129)
    for classes, width, dtype in ((19, 2048, torch.bfloat16), (256, 4096, torch.float32)):
        features = empty(8, width, 65 * 129, dtype=dtype)
        sums, mass = class_pool_triton(features, labels, weights, classes)
    class_spread_triton(sums, labels, weights, torch.float32)
    class_match_triton(features, labels, sums, mass, torch.float32)


@case
def pseudo_label():
    from dastc.ops.pseudo_label._triton import pseudo_label_triton

    flow = single(8, 2, 512, 1024)
    for classes in (19, 256):
        logits = empty(8, classes, 65, 129)
        noise = single(8, classes, 12, 24)
        pseudo_label_triton(logits, flow, logits, 512, 1024, by_entropy=True, noise=noise)
    pseudo_label_triton(logits, None, None, 512, 1024, by_entropy=False)


@case
def clip_paste():
    from dastc.ops.clip_paste._triton import clip_paste_triton

    frames, labels, flow = single(8, 2, 3, 512, 1024), integers(8, 2, 512, 1024), single(8, 1, 2, 512, 1024)
    weights, table = single(8, 2, 512, 1024), empty(8, 19, dtype=torch.bool)
    eligible = empty(8, 2, 512, 1024, dtype=torch.bool)
    for opacity in (1.0, 0.5):
        clip_paste_triton(
            (frames, frames), (labels, labels), (flow, flow), (weights, weights), labels, table, eligible, opacity
        )


@case
def upsampled_ce():
    from dastc.ops.upsampled_ce._triton import (
        upsampled_ce_backward_triton,
        upsampled_ce_sum_triton,
        upsampled_ce_triton,
    )

    labels, weights = integers(8, 512, 1024), single(8, 512, 1024)
    for classes in (19, 256):
        logits = empty(8, classes, 65, 129)
        upsampled_ce_triton(logits, labels, weights, 255)
        total, _ = upsampled_ce_sum_triton(logits, labels, weights, 255)
        upsampled_ce_backward_triton(total.expand(labels.shape), logits, labels, weights, 255)


@case
def centroid_kernel():
    from dastc.ops.centroid_kernel._triton import centroid_kernel_backward_triton, centroid_kernel_triton

    for classes, width, dtype in ((19, 2048, torch.bfloat16), (256, 4096, torch.float32)):
        rows, present = empty(classes, width, dtype=dtype), empty(classes, dtype=torch.bool)
        kernel = centroid_kernel_triton(rows, rows, present, 2.0, 5)
        centroid_kernel_backward_triton(kernel, rows, rows, present, 2.0, 5)


def signature(kernel, args, options):
    """Return types, constants and attributes as Triton's launch derives them: 1 is a constant, 16 divides or not."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | options
    types, constants, attributes = {}, {}, {}
    for i, name in enumerate(kernel.arg_names):
        value = given[name]
        if kernel.params[i].is_constexpr or value is None or (isinstance(value, int) and value == 1):
            types[name], constants[(i,)] = "constexpr", value
            continue
        types[name] = _type(value)
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0):
            attributes[(i,)] = [["tt.divisibility", 16]]
    return types, constants, attributes


def _type(value):
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= value < 2**31 else "i64"


def resources(cubin):
    """Read registers, stack, shared and local memory off the machine code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        command = [str(tool), "--dump-resource-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    fields = [part.split(":") for part in text.rsplit("Function", 1)[1].split() if part.count(":") == 1]
    return {name: int(value) for name, value in fields if value.isdigit()}


def main(operator, architectures):
    found = []

    def compile_instead(kernel, *args, grid, warmup, **options):  # noqa: ARG001 Triton passes them
        names = set(kernel.arg_names)
        settings = {name: value for name, value in options.items() if name not in names}
        arguments = {name: value for name, value in options.items() if name in names}
        types, constants, attributes = signature(kernel, args, arguments)
        for architecture in architectures:
            source = ASTSource(kernel, types, constants, attributes)
            compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=settings)
            need = resources(compiled.asm["cubin"])
            # shared memory is given at launch, so it stands in the metadata and not in the code
            found.append(
                {
                    "kernel": kernel.__name__, "architecture": architecture, "registers": need["REG"],
                    "stack": need["STACK"], "local": need["LOCAL"], "shared": compiled.metadata.shared,
                }
            )  # fmt: skip

    JITFunction.run = compile_instead
    CASES[operator]()
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], [int(x) for x in sys.argv[2:]])
