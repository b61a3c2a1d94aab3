"""Objectives on two sets of class centroids, one for each domain.

All of them take part-wise centroids: classes that a domain lacks are left out, and with nothing to compare the loss
is exactly 0 and connected to the graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.checks import check_above, check_at_least, check_number, check_whole
from dastc._core.precision import compute_dtype, without_autocast
from dastc.functional.centroids import Centroids, check_centroids
from dastc.ops.centroid_kernel import centroid_kernel

__all__ = ["cdd", "infonce", "inter_class", "intra_class", "margin", "mmd"]


def mmd(source: Centroids | Tensor, target: Centroids | Tensor, *, factor: float = 2.0, count: int = 5) -> Tensor:
    """Measure the multi-kernel maximum mean discrepancy of two centroid sets, blind to which class is which.

    The mean over present classes k, l of ``k(s_k, s_l) + k(t_k, t_l) - k(s_k, t_l) - k(t_k, s_l)``.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.
        factor: Ratio of neighbouring bandwidths, > 1.
        count: Number of bandwidths.

    Shape:
        - output: ``()``, >= 0; 0 for equal sets or no shared class.

    Raises:
        ValueError: If the sets do not fit each other, or the bandwidths make no sense.

    Source:
        What the released code does (docs/method.md#alignment-of-classes), after Long et al. 2015, without its zero rows
        for absent classes.

    Example:
        >>> same = Centroids(torch.eye(3), torch.ones(3))
        >>> mmd(same, same)
        tensor(0.)
    """
    blocks, present = _kernel_blocks("mmd", source, target, factor, count)
    within_source, within_target, across = blocks
    shared = present.sum().clamp(min=1)
    return (within_source + within_target - across - across.T).sum() / (shared * shared)


def cdd(source: Centroids | Tensor, target: Centroids | Tensor, *, factor: float = 2.0, count: int = 5) -> Tensor:
    """Measure the contrastive domain discrepancy: same classes together, different classes apart.

    With ``D(a, b) = k(s_a, s_a) + k(t_b, t_b) - 2 k(s_a, t_b)``: the mean of D(a, a) minus the mean of D(a, b), a != b.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.
        factor: Ratio of neighbouring bandwidths, > 1.
        count: Number of bandwidths.

    Shape:
        - output: ``()``, at most 0 for aligned sets; 0 without a shared class.

    Raises:
        ValueError: If the sets do not fit each other, or the bandwidths make no sense.

    Source:
        The goal is the paper's (arXiv 2311.13254 v1, abstract), the form that of Kang et al. 2019 (CAN), on centroids
        (docs/method.md#alignment-of-classes).

    Example:
        >>> same = Centroids(torch.eye(3), torch.ones(3))
        >>> bool(cdd(same, same) < 0)
        True
    """
    blocks, present = _kernel_blocks("cdd", source, target, factor, count)
    within_source, within_target, across = blocks
    pairs = present[:, None] & present
    own = within_source.diagonal()[:, None] + within_target.diagonal()
    distance = (own - 2 * across) * pairs
    shared = present.sum()
    together = distance.diagonal().sum() / shared.clamp(min=1)
    apart = (distance.sum() - distance.diagonal().sum()) / (shared * (shared - 1)).clamp(min=1)
    return together - apart


def infonce(source: Centroids | Tensor, target: Centroids | Tensor, *, temperature: float = 0.1) -> Tensor:
    """Tell, for each centroid, its own class among all centroids of the other domain; averaged over both directions.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.
        temperature: What cosines are divided by, > 0; small looks at the hardest class only.

    Shape:
        - output: ``()``, >= 0; 0 without a shared class. Classes in one domain only still act as negatives.

    Raises:
        ValueError: If the sets do not fit each other or ``temperature`` <= 0.

    Source:
        The goal is the paper's (arXiv 2311.13254 v1, abstract), the form that of van den Oord et al. 2018 (InfoNCE), on
        centroids (docs/method.md#alignment-of-classes).

    Example:
        >>> same = Centroids(torch.eye(3), torch.ones(3))
        >>> bool(infonce(same, same) < 0.01)
        True
    """
    source, target = check_centroids("infonce", source, target)
    check_above("infonce", "temperature", temperature, 0)
    similarity = _cosines(_unit(source), _unit(target)) / temperature  # (K, K)
    shared = source.present & target.present
    toward_target = similarity.masked_fill(~target.present, _very_negative(similarity))
    toward_source = similarity.T.masked_fill(~source.present, _very_negative(similarity))
    loss = -(toward_target.log_softmax(dim=1) + toward_source.log_softmax(dim=1)).diagonal() / 2
    return _mean_over(loss, shared)


def margin(
    source: Centroids | Tensor, target: Centroids | Tensor, *, distance: float = 1.0, inter_weight: float = 1.0
) -> Tensor:
    """Pull same-class centroids together and keep different classes a margin apart.

    The mean over shared classes a of ``|s_a - t_a|^2``, plus ``inter_weight`` times the mean over pairs a < b of
    ``max(0, distance - |c_a - c_b|)^2``, on unit-length centroids s, t and their centres c.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.
        distance: The distance of unit-length centres, in [0, 2], that is far enough.
        inter_weight: Weight of the second part, dimensionless, >= 0.

    Shape:
        - output: ``()``, >= 0; 0 with neither a shared class nor two classes in all.

    Raises:
        ValueError: If the sets do not fit each other or an argument is out of range.

    Source:
        The goal is the paper's (arXiv 2311.13254 v1, abstract), the form that of Chen et al. 2019 (JDDA), on unit
        vectors, so that the margin has a fixed meaning (docs/method.md#alignment-of-classes).

    Example:
        >>> same = Centroids(torch.eye(3), torch.ones(3))
        >>> margin(same, same)
        tensor(0.)
    """
    check_centroids("margin", source, target)
    _check_distance("margin", distance)
    check_at_least("margin", "inter_weight", inter_weight, 0)
    return intra_class(source, target) + inter_weight * inter_class(source, target, distance=distance)


def intra_class(source: Centroids | Tensor, target: Centroids | Tensor) -> Tensor:
    """Average the squared distance of the two domains' unit-length centroids over shared classes.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.

    Shape:
        - output: ``()``, in [0, 4]; 0 without a shared class.

    Raises:
        ValueError: If the sets do not fit each other.

    Source:
        The first part of :func:`margin`.

    Example:
        >>> x = Centroids(torch.eye(2), torch.ones(2))
        >>> intra_class(x, Centroids(-torch.eye(2), torch.ones(2)))
        tensor(4.)
    """
    source, target = check_centroids("intra_class", source, target)
    squared = (_unit(source) - _unit(target)).square().sum(dim=1)
    return _mean_over(squared, source.present & target.present)


def inter_class(source: Centroids | Tensor, target: Centroids | Tensor, *, distance: float = 1.0) -> Tensor:
    """Penalise pairs of classes whose centres, averaged over the domains that have them, are closer than a margin.

    The mean over pairs a < b of ``max(0, distance - |c_a - c_b|)^2`` on unit-length centres c.

    Args:
        source: Centroids of the source domain; a bare ``(K, D)`` tensor has every class.
        target: Centroids of the target domain, likewise.
        distance: The margin, in [0, 2].

    Shape:
        - output: ``()``, in [0, distance^2]; 0 with fewer than two classes.

    Raises:
        ValueError: If the sets do not fit each other or ``distance`` is out of range.

    Source:
        The second part of :func:`margin`.

    Example:
        >>> x = Centroids(torch.ones(2, 4), torch.ones(2))
        >>> inter_class(x, x).round(decimals=3)
        tensor(1.)
    """
    source, target = check_centroids("inter_class", source, target)
    _check_distance("inter_class", distance)
    centres = _direction(_unit(source) + _unit(target))
    present = source.present | target.present
    pairs = (present[:, None] & present).triu(diagonal=1)
    # |a - b|^2 = 2 - 2 cos; the floor keeps the root's derivative finite for equal centres
    gap = (2 - 2 * _cosines(centres, centres)).clamp(min=1e-12).sqrt()
    return _mean_over(F.relu(distance - gap).square(), pairs)


def _kernel_blocks(
    caller: str, source: Centroids | Tensor, target: Centroids | Tensor, factor: float, count: int
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    source, target = check_centroids(caller, source, target)
    check_above(caller, "factor", factor, 1)
    check_whole(caller, "count", count, 1)
    present = source.present & target.present
    kernel = centroid_kernel(source.values, target.values, present, factor=factor, count=count)
    classes = present.shape[0]
    return (kernel[:classes, :classes], kernel[classes:, classes:], kernel[:classes, classes:]), present


def _unit(centroids: Centroids) -> Tensor:
    values = centroids.values.to(compute_dtype(centroids.values))
    return _direction(values.where(centroids.present.unsqueeze(1), 0))


def _direction(rows: Tensor) -> Tensor:
    # what is 0 has no direction, and gets no gradient: a normalised 0 has one of 1e12, made of rounding
    return F.normalize(rows.where((rows != 0).any(dim=1, keepdim=True), 0), dim=1)


def _check_distance(caller: str, distance: float) -> None:
    check_number(caller, "distance", distance)
    if not 0 <= distance <= 2:
        raise ValueError(f"{caller}: `distance` is one of unit vectors and must lie in [0, 2]; got {distance}.")


def _cosines(left: Tensor, right: Tensor) -> Tensor:
    with without_autocast(left):
        return left @ right.T


def _very_negative(x: Tensor) -> float:
    return torch.finfo(x.dtype).min / 2


def _mean_over(x: Tensor, mask: Tensor) -> Tensor:
    # where, not boolean indexing: no host sync, and an empty mask keeps the graph connected
    return x.where(mask, 0).sum() / mask.sum().clamp(min=1)
