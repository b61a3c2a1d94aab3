"""Kernels among two sets of class centroids."""

from torch import Tensor

from dastc._core.checks import check_above, check_dtype, check_same_device, check_shape, check_whole
from dastc.ops._backend import Backend, check_backend
from dastc.ops.centroid_kernel.op import centroid_kernel_op

__all__ = ["centroid_kernel"]


def centroid_kernel(
    source: Tensor,
    target: Tensor,
    present: Tensor,
    *,
    factor: float = 2.0,
    count: int = 5,
    backend: Backend = "auto",
) -> Tensor:
    r"""Compare all centroids of two domains with a sum of Gaussian kernels.

    .. math:: k(p_i, p_j) = \sum_{m=0}^{M-1} \exp(-\|p_i - p_j\|^2 / \sigma_m), \quad
              \sigma_m = \bar d \, f^{\,m - \lfloor M/2 \rfloor}

    where the :math:`p` are source rows followed by target rows, and :math:`\bar d` is the mean squared distance of
    the different rows that are present, a constant for the gradient.

    Args:
        source: Centroids of the source domain.
        target: Centroids of the target domain.
        present: The classes that take part; the rows of the others are never read into a result.
        factor: Ratio f of neighbouring bandwidths, > 1.
        count: Number M of bandwidths.
        backend: ``"torch"``, ``"triton"`` (a GPU, K <= 256, D <= 4096), or ``"auto"``; see
            :func:`dastc.backend_info`.

    Shape:
        - source, target: ``(K, D)``, any float dtype; computed in float32 (float64 if it is).
        - present: ``(K,)``, bool.
        - output: ``(2K, 2K)``, symmetric, in [0, M], 0 wherever a class is absent; float32 (float64), with a
          gradient to both sets.

    Raises:
        ValueError: If the shapes do not fit, the devices differ, ``factor`` <= 1 or ``count`` < 1.
        TypeError: If a tensor has the wrong kind of dtype.
        RuntimeError: If ``backend="triton"`` cannot be met.

    Source:
        The kernel of the released code (docs/method.md#alignment-of-classes), after Long et al. 2015, over present
        classes only (docs/method.md#what-is-corrected).

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> centroid_kernel(x, x, torch.tensor([True, True])).shape
        torch.Size([4, 4])
    """
    sizes = check_shape("centroid_kernel", "source", source, "K D")
    check_shape("centroid_kernel", "target", target, "K D", sizes)
    check_shape("centroid_kernel", "present", present, "K", sizes)
    check_dtype("centroid_kernel", "source", source, "float")
    check_dtype("centroid_kernel", "target", target, "float")
    check_dtype("centroid_kernel", "present", present, "bool")
    check_whole("centroid_kernel", "count", count, 1)
    check_above("centroid_kernel", "factor", factor, 1)
    check_same_device("centroid_kernel", {"source": source, "target": target, "present": present})
    check_backend("centroid_kernel", backend)
    kernel: Tensor = centroid_kernel_op(source, target, present, factor, count, backend)
    return kernel
