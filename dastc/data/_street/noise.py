"""Tileable smooth noise, made once and looked up in metres."""

from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "smooth_noise"]

Array: TypeAlias = NDArray[Any]

_SIZE = 256  # a power of two: wrapping is a bit mask
_OFFSET = 1 << 14  # keeps the coordinates positive, where truncating is rounding down


@lru_cache(maxsize=4)
def _table(blur: float) -> Array:
    """Periodic Gaussian noise of mean 0 and deviation 1, blurred by ``blur`` cells; about one blob per 4 blurs."""
    white = np.random.default_rng(7).standard_normal((_SIZE, _SIZE))
    frequency = np.fft.fftfreq(_SIZE)
    squared = frequency[:, None] ** 2 + frequency[None, : _SIZE // 2 + 1] ** 2
    smooth = np.fft.irfft2(np.fft.rfft2(white) * np.exp(-2 * (np.pi * blur) ** 2 * squared), s=white.shape)
    table: Array = np.clip((smooth - smooth.mean()) / smooth.std(), -2.5, 2.5).astype(np.float32).ravel()
    return table


def smooth_noise(x: Array, y: Array, *, blur: float = 2.0) -> Array:
    """Look the noise up at cell coordinates of any shape; the same coordinates always give the same value."""
    column = (x + _OFFSET).astype(np.int32) & (_SIZE - 1)
    row = (y + _OFFSET).astype(np.int32) & (_SIZE - 1)
    found: Array = _table(blur).take((row << 8) | column)
    return found
