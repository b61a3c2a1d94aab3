import copy
import re

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
    teacher = Teacher(student, decay=0.7)
    old = student.weight.detach().clone()
    moved(student)
    teacher.update()  # takes the student as it is
    assert torch.equal(teacher.copy.weight, student.weight)
    distance = 0.0
    for keep in (2 / 3, 0.7, 0.7):  # 1 - 1 / (n + 1) up to the decay
        moved(student)
        teacher.update()
        distance = keep * (distance + 1)
        torch.testing.assert_close(student.weight - teacher.copy.weight, torch.full_like(old, distance))


@pytest.mark.parametrize(("rule", "mean"), [("copy", 2.0), ("ema", 1 + 1 / 3), ("none", 0.0)])
def test_buffers_follow_their_rule(rule, mean):
    student = Counting()
    teacher = Teacher(student, buffers=rule)
    for _ in range(2):
        moved(student)
        teacher.update()
    torch.testing.assert_close(teacher.copy.norm.running_mean, torch.full((4,), mean))
    assert teacher.copy.norm.num_batches_tracked == (0 if rule == "none" else 2)  # a counter is never averaged


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("buffers", ["copy", "ema"])
def test_an_average_in_half_precision_moves_as_far_as_a_whole_one(dtype, buffers):
    half, whole = (nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2))
    whole.load_state_dict(half.to(dtype).state_dict())
    slow, plain = (Teacher(student, decay=0.999, buffers=buffers) for student in (half, whole))
    for step in range(60):
        for student, teacher in ((half, slow), (whole, plain)):
            if step == 1:  # from here on, each step of the average is too small for 8 bits
                moved(student)
            teacher.updates.fill_(max(int(teacher.updates), 1000 * (step > 0)))
            teacher.update()
        # what is too small for 8 bits survives being saved
        state, slow = slow.state_dict(), Teacher(half, decay=0.999, buffers=buffers)
        slow.load_state_dict(copy.deepcopy(state))
    for one, other in zip(slow.copy.parameters(), plain.copy.parameters(), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other.to(dtype))
    assert not torch.equal(slow.copy[0].bias, half[0].bias)
    moved_by = 1 - 0.999**59
    torch.testing.assert_close(
        plain.copy[1].running_mean, torch.full((2,), 1.0 if buffers == "copy" else moved_by), rtol=1e-3, atol=1e-3
    )
    torch.testing.assert_close(slow.copy[1].running_mean, plain.copy[1].running_mean.to(dtype))


def test_parameters_and_buffers_of_all_kinds_are_averaged_at_once():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.zeros(2, dtype=torch.float64)), nn.Parameter(torch.zeros(3))
            self.c = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
            self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)

    student = Mixed()
    teacher = Teacher(student, decay=0.5)
    for _ in range(2):
        moved(student)
        teacher.update()
    for name, value in teacher.copy.named_parameters():
        torch.testing.assert_close(value, torch.full_like(value, 1.5)), name
        assert value.dtype == dict(student.named_parameters())[name].dtype
        assert not value.requires_grad
    Teacher(nn.Identity()).update()  # of which there is nothing to average


@pytest.fixture
def alone(tmp_path):
    """Return DistributedDataParallel, in a group of one process."""
    dist = torch.distributed
    if not dist.is_gloo_available():
        pytest.skip("processes talk through gloo")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield nn.parallel.DistributedDataParallel
    dist.destroy_process_group()


@pytest.mark.parametrize("order", ["compiled", "ddp", "ddp of compiled", "compiled ddp"])
def test_a_wrapped_student_teaches_as_a_bare_one(alone, order):
    def compiled(model):
        return torch.compile(model, backend="eager")

    wraps = {"compiled": (compiled,), "ddp": (alone,), "ddp of compiled": (compiled, alone)}
    bare = Counting().eval()
    wrapped = copy.deepcopy(bare)
    for wrap in wraps.get(order, (alone, compiled)):
        wrapped = wrap(wrapped)
    mine, theirs = Teacher(bare), Teacher(wrapped)
    assert type(theirs.copy) is Counting
    for _ in range(2):
        moved(bare), moved(wrapped)
        mine.update(), theirs.update()
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(mine(x), theirs(x))
    assert Teacher(wrapped, mode="student").model is wrapped


@pytest.mark.parametrize("alike", [True, False])
def test_sharded_weights_are_refused(alike):
    student = nn.Linear(2, 2)
    if alike:
        student.weight.full_tensor = lambda: student.weight  # as of a DTensor
        message = "Teacher: `student` must be whole; got sharded weights. Call fully_shard after this."
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Teacher(student)
    else:
        assert Teacher(student).copy is not student


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
    for _ in range(2):
        moved(student)
        teacher.update()
    other = Teacher(Counting())
    other.load_state_dict(teacher.state_dict())
    assert torch.equal(other.copy.layer.weight, teacher.copy.layer.weight)
    assert other.updates == 2
    teacher.update()
    assert other.updates == 2  # a counter of its own
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


def test_arguments_are_shown():
    assert Teacher(nn.Linear(1, 1), mode="frozen", decay=0.5, buffers="none").extra_repr() == (
        "mode='frozen', decay=0.5, buffers='none'"
    )
