"""Synthetic scenes with known objects: four shapes in many sizes, textures and lights, partly hidden, on busy grounds.

Training, calibration and evaluation draw from it; every scene follows from its seed. Run it to write a folder::

    python scenes.py FOLDER --count 200 --seed 1
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("ball", "tile", "cone", "star")
PAINTS = ((60, 80, 205), (200, 130, 60), (70, 190, 120), (185, 80, 190))
"""Usual colour of each class, BGR; every object has its own near it, as fruits have."""
SIZE = 320
"""Height and width of a scene in pixels."""
SMALLEST, LARGEST = 30, 112
"""Longer side of an object in pixels."""
VISIBLE = 0.6
"""Objects that others hide more than this leaves are not drawn: nobody could say what they were."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is in it."""

    pixels: Pixels
    """(size, size, 3), BGR, as OpenCV writes it."""
    xyxy: NDArray[np.float32]
    """(n, 4), pixels."""
    class_ids: NDArray[np.int64]
    """(n,), indices of ``CLASSES``."""


def scene(seed: int, *, size: int = SIZE) -> Scene:
    """The scene of a seed: one to six objects, at most three in a small picture.

    Args:
        seed: Equal seeds draw equal scenes.
        size: Height and width in pixels; the objects keep their size.
    """
    rng = np.random.default_rng(seed)
    pixels = _ground(rng, size)
    owner = np.full((size, size), -1, np.int32)
    boxes: list[tuple[float, float, float, float]] = []
    classes: list[int] = []
    whole: list[int] = []
    for _ in range(int(rng.integers(1, 4 if size < 200 else 7))):
        kind = int(rng.integers(len(CLASSES)))
        mask = _mask(rng, kind, size)
        height, width = mask.shape
        x, y = (int(rng.integers(0, size - side + 1)) for side in (width, height))
        covered = owner[y : y + height, x : x + width]
        seen = mask > 127
        if any(
            (owner == index).sum() - (covered[seen] == index).sum() < VISIBLE * area for index, area in enumerate(whole)
        ):
            continue
        covered[seen] = len(boxes)
        _paint(rng, pixels, mask, x, y, PAINTS[kind])
        ys, xs = np.nonzero(seen)
        boxes.append((x + float(xs.min()), y + float(ys.min()), x + float(xs.max() + 1), y + float(ys.max() + 1)))
        classes.append(kind)
        whole.append(len(ys))
    return Scene(
        pixels=_light(rng, pixels),
        xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
        class_ids=np.asarray(classes, np.int64),
    )


def write_folder(folder: Path, *, count: int, seed: int) -> Path:
    """Write ``count`` scenes as PNG, and ``labels.json`` beside the folder's pictures.

    ``labels.json`` is ``{"classes": [...], "objects": {"0000.png": [[class id, x1, y1, x2, y2], ...]}}``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    objects: dict[str, list[list[float]]] = {}
    for number, one in enumerate(scenes(count, seed=seed)):
        name = f"{number:04}.png"
        cv2.imwrite(str(folder / name), one.pixels)
        objects[name] = [[int(c), *map(float, box)] for c, box in zip(one.class_ids, one.xyxy, strict=True)]
    text = json.dumps({"classes": list(CLASSES), "objects": objects}, indent=1)
    (folder / "labels.json").write_text(text + "\n", "utf-8")
    return folder


def scenes(count: int, *, seed: int, size: int = SIZE) -> Iterator[Scene]:
    """``count`` scenes; those of two seeds have nothing in common."""
    for number in range(count):
        yield scene((seed << 24) + number, size=size)


def _mask(rng: np.random.Generator, kind: int, size: int) -> Pixels:
    """(h, w): where one object covers the pixels around it, 0..255 with smooth edges."""
    reach = float(rng.uniform(SMALLEST, min(LARGEST, 0.7 * size)) / 2)
    turn = float(rng.uniform(0, 2 * np.pi))
    if kind == 0:
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        points = np.stack([np.cos(angles), np.sin(angles) * rng.uniform(0.85, 1.0)], axis=1)
    elif kind == 1:
        flat = rng.uniform(0.6, 1.0)
        points = np.array([[-1, -flat], [1, -flat], [1, flat], [-1, flat]]) / np.hypot(1, flat)
    elif kind == 2:
        half = rng.uniform(0.55, 0.8)
        points = np.array([[0.0, -1.0], [half, 0.8], [-half, 0.8]])
    else:
        angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        radius = np.where(np.arange(10) % 2, rng.uniform(0.4, 0.5), 1.0)
        points = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], axis=1)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = points @ rotation.T * reach
    points = points - points.min(axis=0) + 1
    width, height = (int(np.ceil(side)) + 2 for side in points.max(axis=0))
    mask: Any = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, shift=4)
    return np.asarray(mask, np.uint8)


def _paint(rng: np.random.Generator, pixels: Pixels, mask: Pixels, x: int, y: int, paint: tuple[int, int, int]) -> None:
    """Cover ``pixels`` by a texture, shaded from one side, where ``mask`` is; a shadow falls beside it."""
    height, width = mask.shape
    dy, dx = rng.integers(2, 7, 2)
    below = pixels[y + dy : y + dy + height, x + dx : x + dx + width]
    shadow = cv2.GaussianBlur(mask, (0, 0), 3)[: len(below), : below.shape[1], None].astype(np.float32) / 255
    below[:] = (below * (1 - 0.5 * shadow)).astype(np.uint8)
    under = pixels[y : y + height, x : x + width]
    cover = mask[..., None].astype(np.float32) / 255
    surface = _texture(rng, height, width, paint) * _slope(rng, height, width, 0.65, 1.2)
    under[:] = (under * (1 - cover) + surface * cover).clip(0, 255).astype(np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int, paint: tuple[int, int, int]) -> NDArray[np.float32]:
    """(height, width, 3): plain, striped, chequered or speckled, in two colours that are not far from ``paint``."""
    first = (np.array(paint) * rng.uniform(0.6, 1.2) + rng.uniform(-40, 40, 3)).clip(0, 255)
    second = (first + rng.uniform(-50, 50, 3)).clip(0, 255)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    turn, period = rng.uniform(0, np.pi), rng.uniform(6, 20)
    u, v = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    kind = rng.integers(4)
    if kind == 0:
        share = np.zeros((height, width))
    elif kind == 1:
        share = np.asarray(np.floor(u / period) % 2)
    elif kind == 2:
        share = np.asarray((np.floor(u / period) + np.floor(v / period)) % 2)
    else:
        share = np.asarray(cv2.resize(rng.random((height // 6 + 1, width // 6 + 1)), (width, height)))
    return np.asarray(first + (second - first) * share[..., None], np.float32)


def _ground(rng: np.random.Generator, size: int) -> Pixels:
    """Clouds of two colours, with lines and letters that are no objects."""
    clouds = cv2.resize(rng.random((int(rng.integers(2, 14)),) * 2), (size, size), interpolation=cv2.INTER_CUBIC)
    first, second = rng.uniform(30, 225, 3), rng.uniform(30, 225, 3)
    ground: Any = (first + (second - first) * clouds[..., None]).clip(0, 255).astype(np.uint8)
    for _ in range(int(rng.integers(0, 6))):
        start, end = rng.integers(0, size, 2).tolist(), rng.integers(0, size, 2).tolist()
        cv2.line(ground, start, end, rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 5)), cv2.LINE_AA)
    for _ in range(int(rng.integers(0, 3))):
        text = "".join(rng.choice(list("AEHKMRTXZ247"), 3))
        at = rng.integers(0, size, 2).tolist()
        colour = rng.integers(0, 256, 3).tolist()
        cv2.putText(ground, text, at, cv2.FONT_HERSHEY_DUPLEX, float(rng.uniform(0.5, 1.6)), colour, 2, cv2.LINE_AA)
    return np.asarray(ground, np.uint8)


def _light(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """A lamp from one side, an exposure, some blur and some noise."""
    size = len(pixels)
    curve = (np.arange(256, dtype=np.float32) / 255) ** np.float32(rng.uniform(0.6, 1.6)) * 255
    lit = curve[pixels] * _slope(rng, size, size, 0.6, 1.2)
    if rng.random() < 0.4:
        lit = cv2.GaussianBlur(lit, (0, 0), float(rng.uniform(0.5, 1.2)))
    lit += rng.standard_normal(lit.shape, np.float32) * np.float32(rng.uniform(0, 9))
    return np.asarray(lit.clip(0, 255), np.uint8)


def _slope(rng: np.random.Generator, height: int, width: int, low: float, high: float) -> NDArray[np.float32]:
    """(height, width, 1): from one brightness to another across the picture."""
    turn = rng.uniform(0, 2 * np.pi)
    y = (np.arange(height, dtype=np.float32) / height - 0.5)[:, None]
    x = (np.arange(width, dtype=np.float32) / width - 0.5)[None, :]
    along = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) + 0.71) / 1.42
    start, end = rng.uniform(low, high, 2)
    return np.asarray(start + (end - start) * along, np.float32)[..., None]


def main() -> int:
    """Write a folder of scenes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(write_folder(options.folder, count=options.count, seed=options.seed))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
