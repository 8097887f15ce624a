import pytest

from commentary_hub.insight import comparison
from commentary_hub.manifest import Evidence, Measurement, Protocol
from tests.insight.pictured import check_picture


def evidence(controls, students=("mlp",)):
    def one(student, control, mean):
        return Measurement(
            student=student, control=control, runs=10, accuracy_mean=mean, accuracy_ci95=(mean - 0.02, mean + 0.01)
        )

    return Evidence(
        tensor_digest="0" * 64,
        dataset="sklearn:digits",
        protocol=Protocol(
            students=students, controls=controls, seeds=10, steps=10, batch_size=8, learning_rates=(0.1,),
            selection="none", rule="none",
        ),
        measurements=tuple(
            one(student, name, 0.9 - 0.05 * at)
            for student in students
            for at, name in enumerate(("commentary", *controls))
        ),
        verdicts=(),
        outcome="helps",
        summary="",
        hardware="cpu",
        versions={},
        cost_seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("students", [("mlp",), ("mlp", "cnn")])
def test_accuracies_are_drawn_for_every_student(students):
    content, alt = comparison(evidence(("none", "shuffled"), students))
    check_picture(content, alt=alt)
    assert "commentary 90.0%" in alt
    assert "shuffled 80.0%" in alt


def test_more_students_need_a_higher_picture_and_many_controls_a_shorter_text():
    few, _ = comparison(evidence(("none",)))
    many, alt = comparison(evidence(tuple(f"a control with a long name {n}" for n in range(12)), ("mlp",)))
    assert len(check_picture(many, alt=alt)) > len(check_picture(few))


def test_another_commentary_looks_different():
    assert comparison(evidence(("none",)))[0] != comparison(evidence(("none", "shuffled")))[0]
