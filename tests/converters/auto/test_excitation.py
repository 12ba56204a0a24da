from __future__ import annotations

import numpy as np

from edgesdk.bundle.manifest import Branch, OutputSpec
from edgesdk_converters.auto import excitation

SPEC = OutputSpec(
    name="y",
    shape=(1, 6),
    dtype="float32",
    branches=(Branch(name="boxes", axis=1, start=0, stop=4), Branch(name="scores", axis=1, start=4, stop=6)),
)


def test_excitation__a_branch_that_is_always_zero() -> None:
    rng = np.random.default_rng(0)
    results = [[np.concatenate([rng.normal(size=(1, 4)), np.zeros((1, 2))], axis=1)] for _ in range(5)]
    (finding,) = excitation([SPEC], results)
    assert finding.severity == "warning"
    assert finding.subject == "excitation"
    assert "branch 'scores' of output 'y' is zero over all 5 samples" in finding.text
    assert "Add samples that make it answer" in finding.text


def test_excitation__a_branch_that_never_moves() -> None:
    rng = np.random.default_rng(0)
    results = [[np.concatenate([np.full((1, 4), 7.0), rng.normal(size=(1, 2))], axis=1)] for _ in range(5)]
    (finding,) = excitation([SPEC], results)
    assert "branch 'boxes' of output 'y' is the same over all 5 samples" in finding.text


def test_excitation__one_class_for_everything() -> None:
    spec = OutputSpec(name="y", shape=(1, 3), dtype="float32", branches=(Branch(name="y", class_axis=1),))
    rng = np.random.default_rng(0)
    same = [[np.asarray([[0.1, 0.2, 0.7]]) + rng.normal(0, 0.01, (1, 3))] for _ in range(9)]
    (finding,) = excitation([spec], same)
    assert "says class 2 for every one of 9 samples" in finding.text
    assert "Add samples of the other classes" in finding.text
    assert excitation([spec], [*same, [np.asarray([[0.9, 0.0, 0.1]])]]) == ()


def test_excitation__nothing_to_say() -> None:
    rng = np.random.default_rng(0)
    assert excitation([SPEC], [[rng.normal(size=(1, 6))] for _ in range(5)]) == ()
    assert excitation([SPEC], []) == ()
