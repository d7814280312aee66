"""The teacher is the mean of its students, follows their buffers, and survives a resume."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.training import EmaTeacher


def _net() -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))


def _advance(student: nn.Module, generator: torch.Generator) -> torch.Tensor:
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return student[0].weight.clone()


def test_the_first_update_copies_the_student_whatever_the_teacher_was() -> None:
    teacher, student = _net(), _net()
    EmaTeacher(teacher=teacher, student=student).update()
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_until_the_bound_the_teacher_is_the_mean_of_all_students() -> None:
    teacher, student, generator = _net(), _net(), torch.Generator().manual_seed(0)
    ema, students = EmaTeacher(teacher=teacher, student=student, decay=0.99), []
    for _ in range(100):
        students.append(_advance(student, generator))
        ema.update()
    assert torch.allclose(teacher[0].weight, torch.stack(students).mean(0), atol=1e-5)
    expected = 0.99 * teacher[0].weight + 0.01 * _advance(student, generator)
    ema.update()
    assert torch.allclose(teacher[0].weight, expected, atol=1e-6)


def test_buffers_follow_the_student_and_the_teacher_never_trains() -> None:
    teacher, student = _net(), _net()
    ema = EmaTeacher(teacher=teacher, student=student)
    student(torch.randn(2, 1, 3, 3, 3))
    teacher.train()
    ema.update()
    assert torch.equal(teacher[1].running_mean, student[1].running_mean)
    assert not teacher.training
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_restored_teacher_goes_on_as_the_first_would() -> None:
    student, generator = _net(), torch.Generator().manual_seed(0)
    first = EmaTeacher(teacher=_net(), student=student, decay=0.9)
    for _ in range(3):
        _advance(student, generator)
        first.update()
    second = EmaTeacher(teacher=_net(), student=student, decay=0.9)
    second.load_state_dict(first.state_dict())
    _advance(student, generator)
    first.update()
    second.update()
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True))


def test_a_teacher_of_other_shape_or_the_student_itself_is_refused() -> None:
    student = _net()
    for teacher in (nn.Sequential(nn.Conv3d(1, 3, 1), nn.BatchNorm3d(3)), student):
        with pytest.raises(ConfigError, match="second network"):
            EmaTeacher(teacher=teacher, student=student)
    with pytest.raises(ConfigError, match="below 1"):
        EmaTeacher(teacher=_net(), student=student, decay=1.0)
