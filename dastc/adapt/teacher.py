"""The model that labels the target."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dastc._core.checks import check_between, check_choice
from dastc._core.modes import evaluation_mode

__all__ = ["Teacher"]

Mode = Literal["ema", "frozen", "student"]
Buffers = Literal["copy", "ema", "none"]


class Teacher(nn.Module):
    """Label with a copy of the student that follows slowly, stays as it was, or with the student itself.

    Always in evaluation mode and without gradient, so that neither dropout nor running statistics leak into labels.

    Args:
        student: The model in training. The teacher does not own it: it is not part of the teacher's parameters.
        mode: ``"ema"``: a copy, moved a little toward the student by each ``update``; ``"frozen"``: a copy that
            stays; ``"student"``: the student as it is.
        decay: Share of the teacher that each update keeps, in [0, 1]; in the first updates less,
            ``min(decay, 1 - 1 / (n + 1))``, so that the start is forgotten quickly.
        buffers: What becomes of buffers such as BatchNorm's statistics: ``"copy"`` takes the student's, ``"ema"``
            averages floating ones (and copies counters), ``"none"`` leaves the teacher's.

    Raises:
        ValueError: If an argument is out of range.

    Source:
        METHOD 5; one mean teacher instead of a frozen net that later gives way to the student in training mode
        (METHOD 11, A14).

    Example:
        >>> student = nn.Linear(2, 2)
        >>> teacher = Teacher(student, decay=0.99)
        >>> teacher.update()
        >>> teacher(torch.zeros(1, 2)).requires_grad
        False
    """

    updates: Tensor
    _student: nn.Module

    def __init__(
        self, student: nn.Module, *, mode: Mode = "ema", decay: float = 0.99, buffers: Buffers = "copy"
    ) -> None:
        super().__init__()
        check_choice("Teacher", "mode", mode, ("ema", "frozen", "student"))
        check_choice("Teacher", "buffers", buffers, ("copy", "ema", "none"))
        check_between("Teacher", "decay", decay, 0, 1)
        self.mode, self.decay, self.buffer_rule = mode, decay, buffers
        # past nn.Module's own bookkeeping: the student must not appear in parameters() and state_dict() here
        object.__setattr__(self, "_student", student)
        self.copy = None if mode == "student" else copy.deepcopy(student).requires_grad_(False)
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    @property
    def model(self) -> nn.Module:
        """The network that answers."""
        return self._student if self.copy is None else self.copy

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the network says, in evaluation mode."""
        with evaluation_mode(self.model):
            return self.model(*args, **kwargs)

    @torch.no_grad()
    def update(self) -> None:
        """Follow the student by one step; does nothing for the other modes."""
        if self.mode != "ema" or self.copy is None:
            return
        self.updates += 1
        # on the device: reading the counter would make the host wait
        keep = (1 - 1 / (self.updates.float() + 1)).clamp(max=self.decay)
        student = self._student
        pairs = list(zip(self.copy.parameters(), student.parameters(), strict=True))
        for mine, theirs in zip(self.copy.buffers(), student.buffers(), strict=True):
            if self.buffer_rule == "ema" and mine.is_floating_point():
                pairs.append((mine, theirs))  # type: ignore[arg-type]
            elif self.buffer_rule != "none":
                mine.copy_(theirs)
        for mine, theirs in pairs:
            mine.lerp_(theirs.to(mine.dtype), (1 - keep).to(mine.device, mine.dtype))

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"mode={self.mode!r}, decay={self.decay}, buffers={self.buffer_rule!r}"
