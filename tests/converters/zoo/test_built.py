"""ONNX graphs built from weights alone."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgesdk.errors import ZooError
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.zoo import onnx_file
from edgesdk_converters.zoo.built import BUILDERS
from edgesdk_converters.zoo.graphs import minilm
from edgesdk_converters.zoo.weights import read_safetensors, read_state_dict
from edgesdk_converters.zoo.wordpiece import WordPiece

VOCABULARY = {
    word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "pump", "##s", "open", "-", "cafe"])
}


def tiny_bert() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    width, inner = 24, 48
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (30, width),
        "embeddings.position_embeddings.weight": (16, width),
        "embeddings.token_type_embeddings.weight": (2, width),
        "embeddings.LayerNorm.weight": (width,),
        "embeddings.LayerNorm.bias": (width,),
    }
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{layer}.attention.{name}.weight"], shapes[f"{layer}.attention.{name}.bias"] = (
                (width, width),
                (width,),
            )
        shapes[f"{layer}.intermediate.dense.weight"], shapes[f"{layer}.intermediate.dense.bias"] = (
            (inner, width),
            (inner,),
        )
        shapes[f"{layer}.output.dense.weight"], shapes[f"{layer}.output.dense.bias"] = (width, inner), (width,)
        for name in ("attention.output", "output"):
            shapes[f"{layer}.{name}.LayerNorm.weight"] = shapes[f"{layer}.{name}.LayerNorm.bias"] = (width,)
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def reference_bert(w: dict[str, Any], ids: list[int]) -> Any:
    """The encoder written out on the tokens that are there: masks and padding do not exist here."""

    def norm(x: Any, layer: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / deviation * w[f"{layer}.LayerNorm.weight"] + w[f"{layer}.LayerNorm.bias"]

    def dense(x: Any, layer: str) -> Any:
        return x @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]

    w = {name: value.astype(np.float64) for name, value in w.items()}
    positions = w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(
        w["embeddings.word_embeddings.weight"][ids] + positions + w["embeddings.token_type_embeddings.weight"][0],
        "embeddings",
    )
    for index in range(2):
        layer = f"encoder.layer.{index}"
        q, k, v = (
            dense(x, f"{layer}.attention.self.{name}").reshape(len(ids), 12, -1) for name in ("query", "key", "value")
        )
        scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[2])
        share = np.exp(scores - scores.max(-1, keepdims=True))
        share /= share.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", share, v).reshape(len(ids), -1)
        x = norm(x + dense(mixed, f"{layer}.attention.output.dense"), f"{layer}.attention.output")
        inner = dense(x, f"{layer}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + dense(inner, f"{layer}.output.dense"), f"{layer}.output")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_minilm__equals_the_encoder_written_out() -> None:
    weights = tiny_bert()
    runner = OnnxRunner(minilm(weights, tokens=10))
    ids = [2, 7, 11, 29, 3]
    padded = np.zeros((1, 10), np.int64)
    padded[0, : len(ids)] = ids
    (got,) = runner.run([padded, (padded > 0).astype(np.int64)])
    np.testing.assert_allclose(got[0], reference_bert(weights, ids), atol=2e-6)


@pytest.mark.zoo
@pytest.mark.slow
def test_minilm__knows_what_means_the_same(zoo: Callable[[str], Path]) -> None:
    runner = OnnxRunner(minilm(read_safetensors(zoo("minilm").read_bytes()), tokens=16))
    tokenizer = WordPiece.from_file(zoo("minilm-tokenizer"))

    def embed(text: str) -> Any:
        return runner.run(tokenizer(text, 16))[0][0]

    person = embed("That is a happy person")
    figures = [
        person @ embed(text) for text in ("That is a happy dog", "That is a very happy person", "Today is a sunny day")
    ]
    # The model card's own example, as its authors print it.
    np.testing.assert_allclose(figures, [0.695, 0.943, 0.257], atol=1e-3)


@pytest.mark.zoo
def test_efficientnet_lite0__knows_an_espresso(zoo: Callable[[str], Path]) -> None:
    import cv2

    from edgesdk.sources.reading import read_picture

    runner = OnnxRunner(BUILDERS["efficientnet-lite0"](zoo("efficientnet-lite0").read_bytes()))
    pixels = np.asarray(read_picture(zoo("coffee")).pixels)
    if read_picture(zoo("coffee")).colour == "BGR":
        pixels = pixels[..., ::-1]
    side = min(pixels.shape[:2])
    square = cv2.resize(np.ascontiguousarray(pixels[:side, -side - 50 : -50]), (224, 224), interpolation=cv2.INTER_AREA)
    (logits,) = runner.run([((np.asarray(square, np.float32) - 127) / 128).transpose(2, 0, 1)[None]])
    assert int(logits.argmax()) == 967  # ImageNet's espresso


@pytest.mark.torch
@pytest.mark.zoo
def test_efficientnet_lite0__equals_torch(zoo: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from edgesdk_converters.zoo.factories import efficientnet_lite0

    monkeypatch.setattr(sys, "path", list(sys.path))
    content = zoo("efficientnet-lite0").read_bytes()
    module = efficientnet_lite0()
    module.load_state_dict(
        {name: torch.from_numpy(np.array(value)) for name, value in read_state_dict(content).items()}
    )
    x = np.random.default_rng(0).normal(0, 1, (1, 3, 224, 224)).astype(np.float32)
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(x)).numpy()
    (got,) = OnnxRunner(BUILDERS["efficientnet-lite0"](content)).run([x])
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.zoo
def test_onnx_file__is_written_once_and_checks(zoo: Callable[[str], Path]) -> None:
    zoo("efficientnet-lite0")
    path = onnx_file("efficientnet-lite0")
    before = path.stat().st_mtime_ns
    assert onnx_file("efficientnet-lite0") == path
    assert path.stat().st_mtime_ns == before
    onnx.checker.check_model(str(path))


def test_onnx_file__model_that_is_tflite_alone_says_which_are_onnx() -> None:
    with pytest.raises(ZooError, match=r"'iris' as .tflite alone. As ONNX there are: .*efficientnet-lite0.*minilm"):
        onnx_file("iris")


def test_wordpiece__splits_words_and_pads() -> None:
    ids, mask = WordPiece(VOCABULARY)("Pumps open - CAFÉ valve", 10)
    assert ids.tolist() == [[2, 4, 5, 6, 7, 8, 1, 3, 0, 0]]
    assert mask.tolist() == [[1] * 8 + [0] * 2]


def test_wordpiece__long_sentence_is_cut_and_still_ends() -> None:
    ids, mask = WordPiece(VOCABULARY)("open " * 30, 6)
    assert ids.tolist() == [[2, 6, 6, 6, 6, 3]]
    assert mask.all()
