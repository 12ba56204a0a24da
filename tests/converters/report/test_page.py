from __future__ import annotations

import math
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgesdk_converters.report import write_report
from edgesdk_converters.report.page import page
from edgesdk_converters.report.record import Example, NodeCost, Record, TensorHistogram, Trial

VOID = {"meta", "img", "br", "link", "hr", "col"}


class Reading(HTMLParser):
    """What a browser sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def test_page__hostile_names_are_only_text(hostile: Record) -> None:
    text = page(hostile)
    seen = Reading(text)
    assert seen.open == []
    tags = {tag for tag, _ in seen.tags}
    assert not tags & {"script", "iframe", "object", "embed", "form", "base", "foreignobject"}
    for tag, attributes in seen.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "img":
            assert (attributes["src"] or "").startswith("data:image/png;base64,")
        assert (attributes.get("href") or "#").startswith("#")
    words = "".join(seen.text)
    assert "<script>alert('x')</script>" in words
    assert not set(text) & {"\x00", "\x1b", "\u202e"}


def test_page__needs_nothing_from_anywhere(record: Record) -> None:
    text = page(record)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"@import|url\((?!#)", text)
    policy = next(a["content"] for t, a in Reading(text).tags if t == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_page__has_every_part(record: Record) -> None:
    words = " ".join(Reading(page(record)).text)
    for heading in (
        "Trials",
        "Size, time and fidelity",
        "What goes in and out",
        "Examples",
        "Kept in float",
        "Sensitivity of the nodes",
        "Calibration set",
        "Activations and their ranges",
        "Operators",
        "Sparsity",
        "Provenance",
        "Look into the models",
    ):
        assert heading in words
    assert "costs half of the budget of scores" in words
    assert "10 nodes that cost less are left out here" in words
    assert "picture, RGB, NCHW, letterbox on 114, times 1/255, minus 0.5, divided by 0.25" in words
    assert "edgesdk report demo.edge --serve" in words


def test_page__every_picture_has_words_and_every_table_headers(record: Record) -> None:
    seen = Reading(page(record))
    for tag, attributes in seen.tags:
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
    assert ("html", {"lang": "en"}) in seen.tags


def test_page__nothing_by_colour_alone(record: Record) -> None:
    words = " ".join(Reading(page(record)).text)
    for said in ("in the bundle", "refused", "not chosen", "below limit", "differs", "same", "stays float", "clipped"):
        assert said in words


def test_page__a_bare_record_still_says_what_it_knows(record: Record) -> None:
    bare = Record(
        name="bare",
        bundle="bare.edge",
        device="raspberry-pi-4",
        host="",
        contract=record.contract,
        provenance=record.provenance,
        licence=record.licence,
    )
    words = " ".join(Reading(page(bare)).text)
    assert "No quantized model is in the bundle" in words
    assert "Nothing was measured." in words
    assert "Sensitivity" not in words


def test_page__numbers_that_are_none(record: Record) -> None:
    broken = msgspec.structs.replace(
        record,
        sensitivity=(
            NodeCost(node="a", op_type="Conv", weight_bytes=0, error={"b": math.inf, "c": math.nan}, scheme="float"),
            NodeCost(node="z", op_type="Conv", weight_bytes=0, error={}, scheme="something new"),
        ),
        histograms=(
            TensorHistogram(tensor="t", node="", counts=(1, 2), low=math.nan, high=1, chosen_low=0, chosen_high=1),
            TensorHistogram(tensor="u", node="", counts=(0, 0), low=0, high=1, chosen_low=0, chosen_high=0),
            TensorHistogram(tensor="v", node="", counts=(), low=0, high=0, chosen_low=0, chosen_high=0),
        ),
    )
    text = page(broken)
    assert "lost" in text
    assert not re.search(r' [a-z0-9]+="-?(nan|inf)', text)


def test_page__one_trial_without_time_or_fidelity(record: Record, trial: Callable[..., Trial]) -> None:
    one = trial("onnx-int8", ratio=None)
    bare = msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, fidelity=()))
    Reading(page(msgspec.structs.replace(record, trials=(one,))))
    Reading(page(msgspec.structs.replace(record, trials=(bare,))))


def test_page__results_in_rows_with_marks(record: Record) -> None:
    def row(expected: dict[str, Any], got: dict[str, Any]) -> str:
        example = Example(name="x", expected=expected, got=got, same=True)
        words = Reading(page(msgspec.structs.replace(record, examples=(example,)))).text
        return " ".join(words[words.index("quantized") : words.index("Kept in float", words.index("quantized"))])

    faces = {"kind": "faces", "faces": [{"score": 0.9, "xyxy": [1.0, 2.0], "keypoints": {"nose": [1, 2]}}]}
    assert "faces 1 score 0.9; xyxy 1, 2 \u2013 \u2260" in row(faces, {"kind": "faces"})
    assert "faces none none =" in row({"kind": "faces", "faces": []}, {"kind": "faces", "faces": []})
    raw = [{"kind": "raw", "outputs": {"y": {"values": [[0.1, value, 0.2, -3.0]]}}} for value in (0.7, 0.71)]
    assert "y, largest [1] 0.7 [1] 0.71 \u2248 y, second largest [2] 0.2 [2] 0.2 =" in row(*raw)
    small = [{"kind": "raw", "outputs": {"y": {"values": [[0.98, value, 0.0, 0.0]]}}} for value in (0.0009, 0.0003)]
    assert "y, second largest [1] 0.0009 [1] 0.0003 \u2248" in row(*small)
    ball = {
        "kind": "detections",
        "objects": [{"class_id": 0, "label": "ball", "score": 0.8, "xyxy": [1.6, 183.0, 51.0, 230.9]}],
    }
    near = {
        "kind": "detections",
        "objects": [{"class_id": 0, "label": "ball", "score": 0.8, "xyxy": [1.8, 183.2, 51.0, 230.9]}],
    }
    assert (
        "objects 1 ball; score 0.8; xyxy 1.6, 183, 51, 230.9 ball; score 0.8; xyxy 1.8, 183.2, 51, 230.9 \u2248"
        in row(ball, near)
    )
    large = [{"kind": "raw", "outputs": {"y": {"shape": [9], "dtype": "f", "max": value}}} for value in (1.0, 2.0)]
    assert "y, max 1 2 \u2260" in row(*large)
    many = {"kind": "k", **{f"n{index}": index for index in range(20)}}
    assert "8 more values, 0 of them differing, in the JSON." in row(many, many)


def test_page__says_why_something_below_the_line_passed(record: Record, trial: Callable[..., Trial]) -> None:
    assert "is no reason to refuse" not in page(record)
    one = trial("onnx-int8")
    figures = tuple(msgspec.structs.replace(f, top1_agreement=0.92, passed=True) for f in one.measurement.fidelity)
    few = msgspec.structs.replace(one, measurement=msgspec.structs.replace(one.measurement, fidelity=figures))
    text = page(msgspec.structs.replace(record, trials=(few,)))
    assert "With only 20 held-out inputs, a single decision that differs is no reason to refuse" in text
    words = " ".join(Reading(text).text).replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "; the limit is 98 %, but of 20 held-out inputs one more or less decides: give more to evaluate on." in words


def test_page__stability_ends_in_what_the_verdict_goes_by(record: Record) -> None:
    assert record.calibration is not None
    text = page(record).replace("\N{NO-BREAK SPACE}", " ").replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "20 samples 10 %, 40 samples 4 %; expected of all 80: 3 %" in text
    assert "hollow: expected of all; enough below the dashed line" in text
    without = msgspec.structs.replace(record, calibration=msgspec.structs.replace(record.calibration, forecast=None))
    assert "expected of all" not in page(without)


def test_page__red_only_where_the_decision_differs(record: Record) -> None:
    def shown(*, same: bool) -> str:
        example = Example(name="x", expected={"kind": "k", "n": 1.0}, got={"kind": "k", "n": 2.0}, same=same)
        return page(msgspec.structs.replace(record, examples=(example,)))

    assert '<span class="no" title="differs">\u2260</span>' in shown(same=False)
    assert '<span title="differs by more than 5 %; the decision is the same">\u2260</span>' in shown(same=True)


def test_page__names_the_variant_of_the_examples(record: Record) -> None:
    text = " ".join(Reading(page(record)).text)
    variants = {one.variant for one in record.examples if one.variant}
    assert len(variants) == 1
    assert f"the quantized one ({variants.pop()})" in text


# -- colours -----------------------------------------------------------------------------------------------------------


def _palettes() -> dict[str, dict[str, str]]:
    css = resources.files("edgesdk_converters.report").joinpath("style.css").read_text("utf-8")
    blocks = re.findall(r":root\s*{([^}]*)}", css)
    assert len(blocks) == 3
    found = [dict(re.findall(r"--([\w-]+):\s*(#[0-9a-f]{6})", block)) for block in blocks]
    assert found[0] == found[2], "print uses the light colours"
    return {"light": found[0], "dark": found[1]}


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """WCAG 2.2, 1.4.3."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_style__text_and_marks_can_be_told_from_their_ground(mode: str) -> None:
    colours = _palettes()[mode]
    texts = [("ink", "ground"), ("ink", "panel"), ("soft", "ground"), ("soft", "panel"), ("accent", "ground")]
    texts += [(tone, f"{tone}-ground") for tone in ("good", "bad", "warn")]
    texts += [("good", "ground"), ("bad", "ground"), ("ink", "beyond"), ("soft", "beyond")]
    for text, ground in texts:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for name in [name for name in colours if name.startswith("s-")] + ["accent", "budget"]:
        assert contrast(colours[name], colours["ground"]) >= 3, name
    assert contrast(colours["accent"], colours["band"]) >= 3


# -- a real browser ----------------------------------------------------------------------------------------------------


@pytest.mark.chromium
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (420, False)])
def test_page__in_a_browser(record: Record, tmp_path: Path, width: int, dark: bool) -> None:
    import cv2

    write_report(record, tmp_path / "r.html")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},1600"]
    command += [f"--screenshot={tmp_path / 'shot.png'}"]
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    subprocess.run([*command, (tmp_path / "r.html").as_uri()], check=True, capture_output=True, timeout=120)
    shot = cv2.imread(str(tmp_path / "shot.png"))
    assert shot is not None
    ground = tuple(int(channel) for channel in shot[2, 2][::-1])
    expected = _palettes()["dark" if dark else "light"]["ground"]
    assert "#{:02x}{:02x}{:02x}".format(*ground) == expected
    assert np.unique(shot.reshape(-1, 3), axis=0).shape[0] > 50


@pytest.mark.chromium
def test_page__prints(record: Record, tmp_path: Path) -> None:
    write_report(record, tmp_path / "r.html")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--print-to-pdf={tmp_path / 'r.pdf'}", (tmp_path / "r.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")
