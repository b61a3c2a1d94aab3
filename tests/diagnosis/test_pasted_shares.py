import pytest
import torch

from dastc import Clip
from dastc.diagnosis import pasted_shares
from dastc.fusion import SequencePatchFusion

K = 4


def test_pasted_shares_count_the_pixels_of_each_class_in_both_contexts():
    fusion = SequencePatchFusion(K, classes=1, seed=5)
    source, target = (
        Clip(torch.full((2, 1, 3, 4, 4), float(i)), torch.randint(0, K, (2, 1, 4, 4)), None) for i in range(2)
    )
    shares = pasted_shares(fusion, source, target, K)
    in_source, in_target = fusion(source, target)  # the copy drew what the original draws
    for share, context, pasted in ((shares.in_source, in_source, 1), (shares.in_target, in_target, 0)):
        came = context.clip.frames[:, :, 0] == pasted
        counts = [int((came & (context.clip.labels == k)).sum()) for k in range(K)]
        assert 0 < sum(counts) < 32
        assert share == pytest.approx([count / 32 for count in counts])
