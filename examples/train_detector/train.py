"""Trains the detector on synthetic scenes in a few minutes on a CPU, checks it, and exports it as ONNX.

pip install torch opencv-python-headless onnx onnxruntime
python train.py --output detector.onnx
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from model import STRIDES, Conv, Detector, grid
from numpy.typing import NDArray
from scenes import CLASSES, SIZE, Scene, scene, scenes
from torch import Tensor

TRAIN_SIZE = 160
"""Convolutions do not mind the size of the picture, and small ones train four times faster."""
TRAIN_SEED, VALIDATION_SEED, TEST_SEED = 1, 2, 11
"""Nothing was ever chosen by what the test scenes say; the validation scenes are there for that."""
DRAWN = 8000
"""Scenes that training draws; it sees each of them about three times, turned and mirrored: drawing costs too."""
SIDES = ((0.0, 56.0), (36.0, 96.0), (72.0, 1e9))
"""Longer sides of the boxes, in pixels, that strides 8, 16 and 32 may answer for: a size at a limit has two."""
RADIUS = 1.5
"""Cells that may answer for a box lie so near to its centre, in strides."""
THRESHOLD = 0.25
RATES = (0.1, 4e-3)
"""Of learning: the share of its length by which a kernel may turn in one step, and AdamW's for everything else."""

STRIDE_INDEX = torch.zeros(max(STRIDES) + 1, dtype=torch.int64)
STRIDE_INDEX[list(STRIDES)] = torch.arange(len(STRIDES))


def train(steps: int, batch: int) -> Detector:
    """A detector after so many steps; what is returned is the running mean of its weights.

    Args:
        steps: Of the optimizer.
        batch: Scenes per step.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(TRAIN_SEED)
    model = Detector(len(CLASSES)).to(memory_format=torch.channels_last)
    mean = copy.deepcopy(model)
    # Behind these comes a batch normalisation: only the direction of their weights counts.
    kernels = [module[0].weight for module in model.modules() if isinstance(module, Conv)]
    others = [weight for weight in model.parameters() if all(weight is not kernel for kernel in kernels)]
    optimizers = [Orthogonal(kernels, RATES[0]), torch.optim.AdamW(others, lr=RATES[1], weight_decay=1e-3)]

    def share(step: int) -> float:
        """Of the full rate: up in the first twentieth, then down to nothing along a cosine."""
        done = (step + 1) / steps
        return min(done / 0.05, 0.5 + 0.5 * math.cos(math.pi * max(done - 0.05, 0) / 0.95))

    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, share) for optimizer in optimizers]
    begin = time.process_time()
    # Numbers of scenes begin at 1000 << 24: seeds below 1000 are free for scenes that training never sees.
    drawn = [scene((1000 << 24) + number, size=TRAIN_SIZE) for number in range(min(DRAWN, steps * batch))]
    print(f"{len(drawn)} scenes drawn, {time.process_time() - begin:.0f} s of CPU time", flush=True)
    order = np.empty(0, np.int64)
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = np.concatenate([order, rng.permutation(len(drawn))])
        picked, order = order[:batch], order[batch:]
        loss = loss_of(model, [turned(drawn[index], int(rng.integers(8))) for index in picked])
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 5.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        decay = min(0.995, step / (step + 20))
        with torch.no_grad():
            for kept, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
                kept.copy_(kept * decay + new * (1 - decay) if kept.is_floating_point() else new)
        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}: loss {loss.item():.3f}, {time.process_time() - begin:.0f} s", flush=True)
    return mean.eval()


class Orthogonal(torch.optim.Optimizer):
    """Steps in which every direction of a kernel's matrix counts alike: Muon (K. Jordan, 2024).

    The gradient's running mean is replaced by the nearest matrix with orthogonal rows, found by five Newton-Schulz
    iterations. Written from the published description; no code was copied.
    """

    def __init__(self, kernels: Sequence[Tensor], rate: float, momentum: float = 0.9) -> None:
        super().__init__(kernels, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # noqa: ARG002 - torch's signature; nobody gives one
        """One step; the kernels keep their length."""
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                mean = state.setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"]).flatten(1)
                turn = orthogonal(ahead).reshape(weight.shape)
                length = math.sqrt(len(weight))
                weight.sub_(turn * (length / turn.norm()) * group["lr"])
                weight.mul_(length / weight.norm())


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the nearest matrix whose singular values are all one; these end between 0.7 and 1.2."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x if wide is matrix else x.T


def turned(one: Scene, turn: int) -> Scene:
    """One of the eight ways to lay a square picture: mirrored for 4 to 7, then turned by ``turn % 4`` quarters."""
    pixels, (x1, y1, x2, y2), size = one.pixels, one.xyxy.T, len(one.pixels)
    if turn >= 4:
        pixels, x1, x2 = pixels[:, ::-1], size - x2, size - x1
    for _ in range(turn % 4):
        x1, y1, x2, y2 = y1, size - x2, y2, size - x1
    xyxy = np.stack([x1, y1, x2, y2], axis=1)
    return Scene(pixels=np.rot90(pixels, turn % 4), xyxy=xyxy, class_ids=one.class_ids)


def loss_of(model: Detector, drawn: Sequence[Scene]) -> Tensor:
    """Overlap and DFL of the answering cells' boxes, and cross entropy of all scores against what was assigned."""
    pictures = torch.from_numpy(np.stack([to_input(one.pixels) for one in drawn]))
    boxes, logits = model.raw(pictures.contiguous(memory_format=torch.channels_last))
    centres, strides = grid(pictures.shape[2])
    ltrb = model.distances(boxes)
    spread = boxes.reshape(len(drawn), 4, -1, boxes.shape[2])
    wanted = torch.zeros_like(logits)
    box_loss = logits.sum() * 0
    for index, one in enumerate(drawn):
        cells, owner, due, quality = assign(
            one, ltrb[index].detach(), logits[index].detach(), centres[0], strides[0, 0]
        )
        wanted[index, torch.from_numpy(one.class_ids)[owner], cells] = quality
        overlap, gap = giou(ltrb[index][:, cells].T, due)
        per_box = 2.5 * (1 - overlap + gap) + 0.5 * dfl(spread[index][:, :, cells].permute(2, 0, 1), due)
        box_loss = box_loss + (per_box * quality).sum()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return (box_loss + entropy) / wanted.sum().clamp(min=1)


def assign(
    one: Scene, ltrb: Tensor, logits: Tensor, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which cells answer for which box, and how well each of them is to say that it does.

    Every cell near a box's centre at a stride for its size may answer. The one that does it best by now is to score
    its overlap; the others score less, by far less when their boxes are worse: so nothing is found twice.

    Args:
        one: The scene, of ``n`` objects.
        ltrb: Predicted distances (4, p), in strides.
        logits: Predicted scores (classes, p).
        centres: Of the cells (2, p), in strides.
        strides: Of the cells (p,), in pixels.

    Returns:
        Cells (k,), the object of each (k,), its true distances (k, 4) in strides, and the score it is to give (k,).
    """
    truth = torch.from_numpy(np.ascontiguousarray(one.xyxy)).reshape(-1, 4, 1)
    x, y = centres * strides
    left, top, right, bottom = truth.unbind(dim=1)  # (n, 1) each
    due = torch.stack((x - left, y - top, right - x, bottom - y), dim=1) / strides  # (n, 4, p)
    side = torch.maximum(right - left, bottom - top)
    low, high = (torch.tensor(limit)[STRIDE_INDEX[strides.long()]] for limit in zip(*SIDES, strict=True))
    away = torch.maximum((x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs()) / strides
    may = (away < RADIUS) & (due.amin(dim=1) > 0) & (side > low) & (side <= high)
    owner, cells = may.nonzero(as_tuple=True)
    there = due[owner, :, cells]
    overlap, _ = giou(ltrb[:, cells].T, there)
    score = logits[torch.from_numpy(one.class_ids)[owner], cells].sigmoid()
    fitness = score.sqrt() * overlap**6 * torch.exp(-1.5 * away[owner, cells] ** 2) + 1e-9
    # A cell between two objects answers for the one it fits better.
    best = torch.zeros(len(strides)).scatter_reduce(0, cells, fitness, "amax")
    kept = fitness >= best[cells]
    cells, owner, there, overlap, fitness = (part[kept] for part in (cells, owner, there, overlap, fitness))
    count = len(one.xyxy)
    fittest = torch.zeros(count).scatter_reduce(0, owner, fitness, "amax")
    nearest = torch.zeros(count).scatter_reduce(0, owner, overlap, "amax")
    return cells, owner, there, (fitness / fittest[owner] * nearest[owner]).clamp(0, 1)


def giou(got: Tensor, due: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of boxes around a common point, (k,), and GIoU's penalty for the gap."""
    inner = torch.minimum(got, due)
    outer = torch.maximum(got, due)

    def area(ltrb: Tensor) -> Tensor:
        return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])

    common = area(inner)
    union = area(got) + area(due) - common
    return common / union.clamp(min=1e-6), (area(outer) - union) / area(outer).clamp(min=1e-6)


def dfl(spread: Tensor, due: Tensor) -> Tensor:
    """Cross entropy (k,) of the two bins beside the true distance. ``spread`` is (k, 4, BINS), ``due`` (k, 4)."""
    bins = spread.shape[2]
    due = due.clamp(0, bins - 1.01)
    low = due.long()
    share = due - low
    logs = spread.log_softmax(dim=2)
    below, above = logs.gather(2, low[..., None])[..., 0], logs.gather(2, low[..., None] + 1)[..., 0]
    return -(below * (1 - share) + above * share).mean(dim=1)


def to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """BGR (h, w, 3) 0..255 to RGB (3, h, w) 0..1."""
    return np.ascontiguousarray(pixels[..., ::-1].transpose(2, 0, 1), np.float32) / 255


def export(model: Detector, path: Path) -> None:
    """ONNX, opset 17, batch 1, with the metadata that tells a converter task, labels and size."""
    import onnx

    example = torch.zeros(1, 3, SIZE, SIZE)
    torch.onnx.export(
        model,
        (example,),
        str(path),
        input_names=["images"],
        output_names=["output0"],
        opset_version=17,
        dynamo=False,  # the tracing exporter needs nothing beside torch
    )
    made = onnx.load(str(path))
    facts = {
        "description": "a small detector of four shapes, trained on synthetic scenes",
        "task": "detect",
        "names": str(dict(enumerate(CLASSES))),
        "imgsz": str([SIZE, SIZE]),
        "stride": str(max(STRIDES)),
        "batch": "1",
        "license": "Apache-2.0",
    }
    for key, value in facts.items():
        made.metadata_props.add(key=key, value=value)
    onnx.save(made, str(path))


def calibrate(model: Detector) -> None:
    """Shift all scores so that the threshold that is best for the validation scenes becomes ``THRESHOLD``: boards use that one."""
    with torch.no_grad():
        answers = [
            (one, model(torch.from_numpy(to_input(one.pixels)[None]))[0].numpy())
            for one in scenes(200, seed=VALIDATION_SEED)
        ]
    best = max((step / 20 for step in range(3, 15)), key=lambda threshold: quality(answers, threshold)[2])
    with torch.no_grad():
        for head in model.scores:
            head.bias += math.log(THRESHOLD / (1 - THRESHOLD)) - math.log(best / (1 - best))
    print(f"what scored {best:.2f} now scores {THRESHOLD}")


def check(path: Path, count: int, seed: int) -> float:
    """F1 on held-out scenes at IoU 0.5 and the score threshold."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = [
        (one, session.run(None, {"images": to_input(one.pixels)[None]})[0][0]) for one in scenes(count, seed=seed)
    ]
    precision, recall, f1 = quality(answers, THRESHOLD)
    print(
        f"{count} held-out scenes of seed {seed}: "
        f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f} at score {THRESHOLD}"
    )
    return f1


def quality(answers: Sequence[tuple[Scene, NDArray[np.float32]]], threshold: float) -> tuple[float, float, float]:
    """Precision, recall and F1 at IoU 0.5 of outputs (4 + classes, p) for scenes."""
    right = found = there = 0
    for one, rows in answers:
        boxes, kinds = decode(rows, threshold)
        found, there = found + len(boxes), there + len(one.xyxy)
        free = list(range(len(one.xyxy)))
        for box, kind in zip(boxes, kinds, strict=True):
            match = max(free, key=lambda i: _iou(box, one.xyxy[i]) * (one.class_ids[i] == kind), default=None)
            if match is not None and one.class_ids[match] == kind and _iou(box, one.xyxy[match]) >= 0.5:
                right += 1
                free.remove(match)
    precision, recall = right / max(found, 1), right / max(there, 1)
    return precision, recall, 2 * precision * recall / max(precision + recall, 1e-9)


def decode(rows: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes xyxy and class ids of (4 + classes, predictions), best first, suppressed at IoU 0.7 per class."""
    scores = rows[4:].max(axis=0)
    kept = np.flatnonzero(scores >= threshold)
    kinds = rows[4:, kept].argmax(axis=0)
    xywh = rows[:4, kept].T
    corner = np.concatenate([xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)
    order: Any = cv2.dnn.NMSBoxesBatched(corner.tolist(), scores[kept].tolist(), kinds.tolist(), threshold, 0.7)
    picked = np.asarray(order, int).reshape(-1)
    boxes = np.concatenate([corner[:, :2], corner[:, :2] + corner[:, 2:]], axis=1)[picked]
    return boxes.astype(np.float32), kinds[picked]


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.clip(sides, 0, None)))
    return common / float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def main() -> int:
    """Train, export, check."""
    parser = argparse.ArgumentParser(description="Train the example detector on synthetic scenes.")
    parser.add_argument("--output", type=Path, default=Path("detector.onnx"))
    parser.add_argument("--steps", type=int, default=1400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; other numbers round otherwise")
    parser.add_argument("--check", type=int, default=200, metavar="N", help="held-out scenes")
    parser.add_argument("--validate", action="store_true", help="check on the validation scenes: for choosing a recipe")
    parser.add_argument("--least-f1", type=float, default=0.9, help="fail below it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    model = train(options.steps, options.batch)
    calibrate(model)
    export(model, options.output)
    print(
        f"{options.output}: {sum(p.numel() for p in model.parameters()):,} parameters, {options.output.stat().st_size:,} bytes"
    )
    f1 = check(options.output, options.check, VALIDATION_SEED if options.validate else TEST_SEED)
    return 0 if f1 >= options.least_f1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
