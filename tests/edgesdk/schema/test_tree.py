from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.schema import tree
from edgesdk.schema.tree import TreeError, compose, from_python, resolve, to_python


def _is_a_word_to_both(text: str) -> bool:
    # PyYAML writes YAML 1.1, where 0E0 is a word and needs no quotes; in 1.2, which is read here, it is a number.
    return resolve(text) == text


WORDS = st.text(max_size=20).filter(_is_a_word_to_both)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


def problems(text: str) -> str:
    with pytest.raises(TreeError) as caught:
        compose(text, file="f.yaml")
    return str(caught.value)


@given(value=PLAIN)
def test_compose__reads_what_safe_dump_writes(value: Any) -> None:
    text = yaml.safe_dump(value)
    assert to_python(compose(text, file="f.yaml")) == value


@given(value=PLAIN)
def test_from_python__is_the_reverse_of_to_python(value: Any) -> None:
    assert to_python(from_python(value, file="f.yaml")) == value


@given(text=st.text(max_size=200))
def test_compose__any_text_gives_a_tree_or_a_tree_error(text: str) -> None:
    found = []
    try:
        compose(text, file="f.yaml")
    except TreeError as error:
        found = error.problems
    assert all(one.file == "f.yaml" and one.line >= 1 for one in found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("yes", "yes"), ("true", True), ("False", False), ("~", None), ("", None),
        ("12", 12), ("-3", -3), ("0x1f", 31), ("0o17", 15), ("1.5", 1.5), ("1e3", 1000.0), ("1_000", "1_000"),
        ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1.2.3", "1.2.3"), ("9" * 40, "9" * 40),
    ],
)  # fmt: skip
def test_resolve__core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    resolved = resolve(text)
    assert resolved == value
    assert type(resolved) is type(value)


def test_compose__duplicate_keys_point_at_the_first() -> None:
    found = problems("a: 1\nb: 2\na: 3\nc: {d: 1, d: 2}\n")
    assert found.splitlines() == [
        "f.yaml:3: key 'a' stands here twice; the first is in line 1. Remove one of them.",
        "f.yaml:4: key 'd' stands here twice; the first is in line 4. Remove one of them.",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: !!python/name:os.system",
        "!!python/object:subprocess.Popen {}",
        "a: !custom 1",
        "!!binary x: 1",
        "a: !!set {x}",
    ],
)
def test_compose__foreign_tags_are_refused(text: str) -> None:
    assert "is not allowed: only plain values are read" in problems(text)


def test_compose__billion_laughs_is_refused_before_it_expands() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30)]
    assert f"means more than {tree.MAX_NODES} values once its aliases are expanded" in problems("\n".join(lines))


def test_compose__honest_aliases_are_read() -> None:
    text = "base: &base {rate: 15Hz}\nleft: *base\nright: *base\n"
    assert to_python(compose(text, file="f.yaml"))["right"] == {"rate": "15Hz"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "f.yaml:1: alias '*a' stands inside its own anchor."),
        ("a: &x 1\nb: *y", "f.yaml:2: alias '*y' has no anchor above it. Known: x."),
        ("a:\n\t- 1", "f.yaml:2: a tab indents this line. Use spaces."),
        ("a: [1,", "f.yaml:2: not YAML:"),
        ("a: 1\n---\nb: 1", "f.yaml:2: a second document starts here"),
        ("? [1]\n: 2", "f.yaml:1: a key is a single word here"),
        ("a: !!int word", "f.yaml:1: 'word' does not fit its tag !!int. Remove the tag."),
        ("[" * 1000, "f.yaml:1: nested deeper than 40 levels."),
    ],
)
def test_compose__what_is_wrong_and_where(text: str, message: str) -> None:
    assert message in problems(text)


def test_compose__a_huge_text_is_refused() -> None:
    assert f"at most {tree.MAX_BYTES} bytes are read here" in problems("a: " + "x" * tree.MAX_BYTES)


def test_compose__pure_python_parser_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: [1, {b: '2'}]\nc: >\n  folded\n  text\n"
    quick = to_python(compose(text, file="f.yaml"))
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert to_python(compose(text, file="f.yaml")) == quick
    assert "f.yaml:2: not YAML" in problems("a: 1\n]")
