"""Which implementation runs."""

import torch

OPERATORS = (
    "flow_warp",
    "resize_flow",
    "class_pool",
    "pseudo_label",
    "clip_paste",
    "upsampled_ce",
    "centroid_kernel",
)


def backend_info(device: torch.device | str = "cpu") -> dict[str, str]:
    """Say which implementation each operator takes on a device, and why.

    Args:
        device: Where the tensors will lie, e.g. ``"cuda"``.

    Example:
        >>> backend_info("cpu")["flow_warp"]
        'torch: the reference runs on every device; no fused kernel is shipped yet'
    """
    torch.device(device)  # an unknown device is an error here, not a wrong answer
    return dict.fromkeys(OPERATORS, "torch: the reference runs on every device; no fused kernel is shipped yet")
