"""The model that labels the target."""

import copy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dastc._core.checks import check_between, check_choice
from dastc._core.modes import evaluation_mode
from dastc._core.wrappers import unwrapped

__all__ = ["Teacher"]

Mode = Literal["ema", "frozen", "student"]
Buffers = Literal["copy", "ema", "none"]


class Teacher(nn.Module):
    """Label with a copy of the student that follows slowly, stays as it was, or with the student itself.

    Always in evaluation mode and without gradient, so that neither dropout nor running statistics leak into labels.
    The average of a student in half precision is kept in float32: its steps are too small for 8 bits.

    Args:
        student: The model in training; it may be wrapped by DistributedDataParallel or ``torch.compile``. The teacher
            does not own it: it is not part of the teacher's parameters. Make the teacher before ``fully_shard``.
        mode: ``"ema"``: a copy, moved a little toward the student by each ``update``; ``"frozen"``: a copy that
            stays; ``"student"``: the student as it is.
        decay: Share of the teacher that the n-th update keeps, in [0, 1]; in the first updates less,
            ``min(decay, 1 - 1 / (n + 1))``, so that the start is forgotten quickly. The first one takes the student as
            it is, so weights that were loaded in between count.
        buffers: What becomes of buffers such as BatchNorm's statistics: ``"copy"`` takes the student's, ``"ema"``
            averages floating ones (and copies counters), ``"none"`` leaves the teacher's.

    Raises:
        ValueError: If an argument is out of range, or the student is sharded already.

    Source:
        Tarvainen and Valpola 2017 (mean teacher); docs/method.md#pseudo-labels-across-frames says what the released
        code has in its place.

    Example:
        >>> student = nn.Linear(2, 2)
        >>> teacher = Teacher(student, decay=0.99)
        >>> teacher.update()
        >>> teacher(torch.zeros(1, 2)).requires_grad
        False
    """

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
        self.copy = None if mode == "student" else _copied(unwrapped(student))
        self.updates = torch.zeros((), dtype=torch.long)  # no buffer: it stays with the host, which reads it
        self._average: list[Tensor] = []  # of a student in half precision, in float32

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
        student = unwrapped(self._student)
        mine, theirs = list(self.copy.parameters()), [_whole(p) for p in student.parameters()]
        copied: list[tuple[Tensor, Tensor]] = []
        for own, its in zip(self.copy.buffers(), student.buffers(), strict=True):
            if self.buffer_rule == "ema" and own.is_floating_point():
                mine.append(own)  # type: ignore[arg-type]
                theirs.append(its)
            elif self.buffer_rule != "none":
                copied.append((own, its))
        self._follow(mine, theirs, _share(int(self.updates), self.decay))
        if copied:
            torch._foreach_copy_([own for own, _ in copied], [its for _, its in copied])

    def _follow(self, mine: list[Any], theirs: list[Any], share: float) -> None:
        half = [x for x in mine if torch.finfo(x.dtype).bits < 32]
        if len(self._average) != len(half):
            self._average = [x.float() for x in half]
        self._average = [x.to(own.device) for x, own in zip(self._average, half, strict=True)]
        wide = iter(self._average)
        averages = [next(wide) if torch.finfo(x.dtype).bits < 32 else x for x in mine]
        if averages:
            torch._foreach_lerp_(averages, [its.to(x) for x, its in zip(averages, theirs, strict=True)], share)
        if half:
            torch._foreach_copy_(half, self._average)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the number of updates, and the average of what is kept in half precision."""
        return {"updates": self.updates.clone(), "average": list(self._average)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on after as many updates."""
        self.updates, self._average = state["updates"].cpu().clone(), [x.clone() for x in state["average"]]

    def extra_repr(self) -> str:
        """Show the constructor's arguments."""
        return f"mode={self.mode!r}, decay={self.decay}, buffers={self.buffer_rule!r}"


def _copied(student: nn.Module) -> nn.Module:
    if any(_is_sharded(p) for p in student.parameters()):
        raise ValueError("Teacher: `student` must be whole; got sharded weights. Call fully_shard after this.")
    return copy.deepcopy(student).requires_grad_(False)


def _is_sharded(x: Tensor) -> bool:
    return hasattr(x, "full_tensor")


def _whole(x: Any) -> Tensor:
    tensor: Tensor = x.full_tensor() if _is_sharded(x) else x
    return tensor


def _share(updates: int, decay: float) -> float:
    # in float32, as the averages are; the first update takes all of the student
    keep = (1 - 1 / (torch.tensor(float(updates)) + 1)).clamp(max=decay) if updates > 1 else torch.tensor(0.0)
    return float(1 - keep)
