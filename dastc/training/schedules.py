"""Learning rates by the step."""

from collections.abc import Callable

from dastc._core.checks import check_at_least

__all__ = ["Schedule", "polynomial"]

Schedule = Callable[[float, int], float]


def polynomial(steps: int, *, warmup: int = 0, power: float = 0.9) -> Schedule:
    r"""Make a schedule that rises in a line to the full rate and falls to nothing.

    .. math:: r_t = r \, \min\left(1, \frac{t + 1}{w}\right) \left(1 - \frac{t}{n}\right)^p

    Args:
        steps: :math:`n`, at least 1.
        warmup: :math:`w`, steps until the full rate; 0 starts with it.
        power: :math:`p`, at least 0; 1 falls in a line, 0 not at all.

    Returns:
        A function of a parameter group's full rate and the step, which gives the rate of that step.

    Raises:
        ValueError: If a number is out of range.

    Source:
        The "poly" schedule of DeepLab, with a warm-up.

    Example:
        >>> schedule = polynomial(100, warmup=4, power=1)
        >>> [round(schedule(0.1, step), 4) for step in (0, 1, 3, 50, 99)]
        [0.025, 0.0495, 0.097, 0.05, 0.001]
    """
    check_at_least("polynomial", "steps", steps, 1)
    check_at_least("polynomial", "warmup", warmup, 0)
    check_at_least("polynomial", "power", power, 0)

    def rate(full: float, step: int) -> float:
        risen = min(1, (step + 1) / warmup) if warmup else 1
        fallen: float = max(0.0, 1 - step / steps) ** power
        return full * risen * fallen

    return rate
