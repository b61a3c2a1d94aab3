"""Per-pixel logits of models that answer with masks and their classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from dastc._core.checks import check_dtype, check_same_device, check_shape
from dastc._core.precision import without_autocast

__all__ = ["query_logits"]


def query_logits(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    r"""Turn the answer of a mask classifier, such as Mask2Former, into logits of every pixel.

    Query q says which pixels it covers, :math:`m_q(x)`, and of which class they are, :math:`p_q(k)`. Published
    inference takes the class with the largest :math:`S_k(x) = \sum_q p_q(k)\, m_q(x)`. Those sums are shares of no
    whole: where masks overlap they exceed 1, where none reaches they are all near 0. Taken for logits as they are, they
    lie between 0 and about 1: a softmax over them is almost flat, no pixel is ever confident, and cross entropy cannot
    fall far. Their logarithm is right:

    .. math:: z_k(x) = \log S_k(x), \qquad \mathrm{softmax}(z)_k = \frac{S_k}{\sum_j S_j}

    The class with the largest logit is that of published inference. The softmax is the probability of a class, given
    that some query covers the pixel, and cross entropy trains masks and classes together. "No object", the last class,
    takes no part.

    Args:
        class_logits: What each query is, with "no object" last.
        mask_logits: Where each query is; its sigmoid is the mask.

    Shape:
        - class_logits: ``(N, Q, K+1)``, float.
        - mask_logits: ``(N, Q, h, w)``, float.
        - output: ``(N, K, h, w)``, float32 (float64), under autocast as well; finite for finite input.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If a tensor is not float.

    Source:
        The sums: Cheng et al. 2021 (MaskFormer), semantic inference; their logarithm as logits: ours.

    Example:
        >>> classes = torch.tensor([[[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])  # query 0 is class 0, query 1 is class 1
        >>> masks = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # query 0 on the left, query 1 on the right
        >>> query_logits(classes, masks).argmax(dim=1)
        tensor([[[0, 1]]])
    """
    sizes = check_shape("query_logits", "class_logits", class_logits, "N Q K+1")
    check_shape("query_logits", "mask_logits", mask_logits, "N Q h w", sizes)
    check_dtype("query_logits", "class_logits", class_logits, "float")
    check_dtype("query_logits", "mask_logits", mask_logits, "float")
    check_same_device("query_logits", {"class_logits": class_logits, "mask_logits": mask_logits})
    wide = torch.promote_types(torch.promote_types(class_logits.dtype, mask_logits.dtype), torch.float32)
    # autocast would multiply in half precision, where small shares are 0 and their logarithm is not finite
    with without_autocast(mask_logits):
        classes = class_logits.to(wide).softmax(dim=-1)[..., :-1]
        covered = F.logsigmoid(mask_logits.to(wide))
        # relative to the query that covers a pixel best, so that nothing vanishes where no query reaches
        best = covered.amax(dim=1, keepdim=True).detach()
        shares = torch.einsum("nqk,nqhw->nkhw", classes, (covered - best).exp())
        return shares.clamp(min=torch.finfo(wide).tiny).log() + best
