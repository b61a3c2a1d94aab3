import copy

import pytest
import torch
from torch import nn

from dastc.adapt import Teacher


class Counting(nn.Module):
    """A model with every kind of state: parameters, running statistics, a counter, dropout."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.drop = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x):
        return self.drop(self.norm(self.layer(x)))


def moved(student):
    with torch.no_grad():
        for tensor in [*student.parameters(), *student.buffers()]:
            tensor.add_(1)
    return student


def test_ema_keeps_a_share_of_itself():
    student = Counting()
    before = copy.deepcopy(student)
    teacher = Teacher(student, decay=0.9)
    teacher.updates.fill_(1000)  # past the warm-up
    moved(student)
    teacher.update()
    for mine, old in zip(teacher.copy.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(mine, old + 0.1)


def test_the_first_updates_forget_quickly():
    student = nn.Linear(1, 1)
    teacher = Teacher(student, decay=0.99)
    old = student.weight.clone()
    moved(student)
    teacher.update()  # keeps 1 - 1/2
    torch.testing.assert_close(teacher.copy.weight, old + 0.5)
    teacher.update()  # keeps 1 - 1/3 of a distance of 0.5
    torch.testing.assert_close(teacher.copy.weight, old + 1 - 0.5 * 2 / 3)


@pytest.mark.parametrize(("rule", "mean"), [("copy", 1.0), ("ema", 0.5), ("none", 0.0)])
def test_buffers_follow_their_rule(rule, mean):
    student = Counting()
    teacher = Teacher(student, buffers=rule)
    moved(student)
    teacher.update()
    torch.testing.assert_close(teacher.copy.norm.running_mean, torch.full((4,), mean))
    assert teacher.copy.norm.num_batches_tracked == (0 if rule == "none" else 1)  # a counter is never averaged


def test_frozen_stays_and_student_is_the_student():
    student = Counting()
    frozen, itself = Teacher(student, mode="frozen"), Teacher(student, mode="student")
    old = student.layer.weight.clone()
    moved(student)
    frozen.update()
    itself.update()
    assert torch.equal(frozen.copy.layer.weight, old)
    assert itself.model is student
    assert list(itself.parameters()) == []


def test_labels_come_from_evaluation_mode_and_leave_no_trace():
    student = Counting().train()
    student.drop.eval()  # a mixed state must come back as it was
    statistics = student.norm.running_mean.clone()
    teacher = Teacher(student, mode="student")
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(teacher(x), teacher(x))
    assert torch.equal(student.norm.running_mean, statistics)
    assert student.training
    assert student.norm.training
    assert not student.drop.training
    assert not teacher(x.requires_grad_()).requires_grad


def test_modes_come_back_after_an_error():
    student = Counting().train()
    with pytest.raises(RuntimeError):
        Teacher(student, mode="student")(torch.zeros(1, 5, 2, 2))
    assert student.norm.training


def test_state_round_trips_and_copies_keep_their_student():
    student = Counting()
    teacher = Teacher(student)
    moved(student)
    teacher.update()
    other = Teacher(Counting())
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other.copy.layer.weight, teacher.copy.layer.weight)
    assert other.updates == 1
    pair = nn.ModuleList([student, Teacher(student, mode="student")])
    twin = copy.deepcopy(pair)
    assert twin[1].model is twin[0]
    assert twin[1].model is not student


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "eam"}, r"Teacher: `mode` must be one of 'ema', 'frozen', 'student'; got 'eam'\."),
        ({"buffers": "all"}, r"Teacher: `buffers` must be one of 'copy', 'ema', 'none'; got 'all'\."),
        ({"decay": 1.5}, r"Teacher: `decay` must lie in \[0, 1\]; got 1\.5\."),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Teacher(nn.Linear(1, 1), **arguments)
