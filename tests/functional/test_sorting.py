"""The order that NumPy finds is PyTorch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dastc._core.sorting import sorted_values, stable_order

ROWS = st.lists(st.sampled_from([-0.0, 0.0, 1.0, -1.0, 1e-45, -1e-45, 3e38, float("inf"), float("-inf"), 2.5]))


@given(row=ROWS)
def test_equal_values_stay_in_their_order(row):
    x = torch.tensor([row, row[::-1]])
    assert torch.equal(stable_order(x), x.argsort(dim=-1, stable=True))
    assert torch.equal(sorted_values(x), x.sort(dim=-1).values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 1, 3, 7), (1, 1000), (3, 0), (0, 4)])
def test_any_shape_layout_and_dtype(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(8).round().div(4).to(dtype)
    for each in (x, x.transpose(0, -1).contiguous().transpose(0, -1)):
        before = each.clone()
        assert torch.equal(stable_order(each), each.argsort(dim=-1, stable=True))
        assert torch.equal(sorted_values(each), each.sort(dim=-1).values)
        assert torch.equal(each, before)
