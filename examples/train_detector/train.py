"""Trains the detector on synthetic scenes in a few minutes on a CPU, checks it, and exports it as ONNX.

pip install torch opencv-python-headless onnx onnxruntime
python train.py --output detector.onnx
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from model import STRIDES, Detector, grid
from numpy.typing import NDArray
from scenes import CLASSES, SIZE, Scene, scenes
from torch import Tensor

TRAIN_SIZE = 160
"""Convolutions do not mind the size of the picture, and small ones train four times faster."""
TRAIN_SEED, TEST_SEED = 1, 2
REACH = (46.0, 84.0)
"""Longer side of a box in pixels up to which strides 8 and 16 are responsible; stride 32 takes the rest."""
RADIUS = 0.75
"""Cells that answer for a box lie so near to its centre, in strides: two or three. More learn sooner, and find everything twice."""
THRESHOLD = 0.25


class Scenes(torch.utils.data.Dataset[Scene]):
    """Scenes by number: nothing is stored, nothing repeats."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        return next(iter(scenes(1, seed=TRAIN_SEED + 1000 + self.first + index, size=TRAIN_SIZE)))


def train(steps: int, batch: int, start: Path | None = None) -> Detector:
    """A detector after so many steps; what is returned is the running mean of its weights.

    Args:
        steps: Of the optimizer.
        batch: Scenes per step.
        start: An exported detector to go on from, with new scenes, instead of random weights.
    """
    torch.manual_seed(0)
    model = Detector(len(CLASSES))
    first, rate = 0, 4e-3
    if start is not None:
        load(model, start)
        first, rate = 1_000_000, 1.5e-3
    mean = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    loader = torch.utils.data.DataLoader(Scenes(steps * batch, first), batch, num_workers=1, collate_fn=list)
    begin = time.monotonic()
    for step, drawn in enumerate(loader, 1):
        loss = loss_of(model, drawn)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        decay = min(0.995, step / (step + 20))
        with torch.no_grad():
            for kept, new in zip(mean.state_dict().values(), model.state_dict().values(), strict=True):
                kept.copy_(kept * decay + new * (1 - decay) if kept.is_floating_point() else new)
        if step % 50 == 0 or step == steps:
            print(f"step {step}/{steps}: loss {loss.item():.3f}, {time.monotonic() - begin:.0f} s", flush=True)
    return mean.eval()


def load(model: Detector, path: Path) -> None:
    """Weights of an exported detector. Its batch normalisation is part of its convolutions by now; what is left here stays frozen."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = [node.input for node in graph.node if node.op_type == "Conv"]
    called: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: called.append(module))
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
    ]
    model.eval()
    with torch.no_grad():
        model.raw(torch.zeros(1, 3, 64, 64))
        for module, behind in zip(called, [*called[1:], None], strict=True):
            if not isinstance(module, torch.nn.Conv2d):
                continue
            _, kernel, bias = weights.pop(0)
            module.weight.copy_(torch.from_numpy(tensors[kernel].copy()))
            if module.bias is not None:
                module.bias.copy_(torch.from_numpy(tensors[bias].copy()))
            elif isinstance(behind, torch.nn.BatchNorm2d):
                behind.bias.copy_(torch.from_numpy(tensors[bias].copy()))
                behind.running_var.fill_(1 - behind.eps)
    for hook in hooks:
        hook.remove()


def loss_of(model: Detector, drawn: Sequence[Scene]) -> Tensor:
    """Overlap and DFL of the responsible cells' boxes, and cross entropy of all scores against that overlap."""
    pictures = torch.from_numpy(np.stack([to_input(one.pixels) for one in drawn]))
    boxes, logits = model.raw(pictures)
    centres, strides = grid(pictures.shape[2])
    ltrb = model.distances(boxes)
    targets, classes = zip(*(assign(one, centres[0], strides[0, 0]) for one in drawn), strict=True)
    target, kind = torch.stack(targets), torch.stack(classes)  # (n, 4, p) in strides; (n, p), -1 is nothing
    picked = (kind >= 0).nonzero(as_tuple=True)
    wanted = torch.zeros_like(logits)
    box_loss = logits.sum() * 0
    if len(picked[0]):
        got, due = ltrb[picked[0], :, picked[1]], target[picked[0], :, picked[1]]
        overlap, penalty = giou(got, due)
        spread = boxes[picked[0], :, picked[1]].reshape(-1, 4, boxes.shape[1] // 4)
        box_loss = (1 - overlap + penalty).mean() * 2 + dfl(spread, due) * 0.5
        wanted[picked[0], kind[picked], picked[1]] = overlap.detach().clamp(0.05, 1)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
    return box_loss + entropy / wanted.sum().clamp(min=1)


def assign(one: Scene, centres: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (4, p) in strides and class ids (p,): the cells around a box's centre at the stride of its size."""
    target, kind = torch.zeros(4, len(strides)), torch.full((len(strides),), -1)
    order = np.argsort([-(box[2] - box[0]) * (box[3] - box[1]) for box in one.xyxy], kind="stable")
    x, y = centres * strides
    for index in order:  # the smaller one takes a cell that two want
        left, top, right, bottom = (float(value) for value in one.xyxy[index])
        side = max(right - left, bottom - top)
        stride = STRIDES[sum(side > reach for reach in REACH)]
        near = torch.maximum((x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs()) < RADIUS * stride
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        cells = near & inside & (strides == stride)
        kind[cells] = int(one.class_ids[index])
        sides = torch.stack((x - left, y - top, right - x, bottom - y)) / strides
        target[:, cells] = sides[:, cells]
    return target, kind


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
    """Cross entropy of the two bins beside the true distance. ``spread`` is (k, 4, BINS), ``due`` (k, 4)."""
    bins = spread.shape[2]
    due = due.clamp(0, bins - 1.01)
    low = due.long()
    share = due - low
    logs = spread.log_softmax(dim=2)
    below, above = logs.gather(2, low[..., None])[..., 0], logs.gather(2, low[..., None] + 1)[..., 0]
    return -(below * (1 - share) + above * share).mean()


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


def check(path: Path, count: int) -> float:
    """F1 on held-out scenes at IoU 0.5 and the score threshold."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    right = found = there = 0
    for one in scenes(count, seed=TEST_SEED):
        rows = session.run(None, {"images": to_input(one.pixels)[None]})[0][0]
        boxes, kinds = decode(rows)
        found, there = found + len(boxes), there + len(one.xyxy)
        free = list(range(len(one.xyxy)))
        for box, kind in zip(boxes, kinds, strict=True):
            match = max(free, key=lambda i: _iou(box, one.xyxy[i]) * (one.class_ids[i] == kind), default=None)
            if match is not None and one.class_ids[match] == kind and _iou(box, one.xyxy[match]) >= 0.5:
                right += 1
                free.remove(match)
    precision, recall = right / max(found, 1), right / max(there, 1)
    f1 = 2 * precision * recall / max(precision + recall, 1e-9)
    print(f"{count} held-out scenes: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f} at score {THRESHOLD}")
    return f1


def decode(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes xyxy and class ids of (4 + classes, predictions), best first, suppressed at IoU 0.7 per class."""
    scores = rows[4:].max(axis=0)
    kept = np.flatnonzero(scores >= THRESHOLD)
    kinds = rows[4:, kept].argmax(axis=0)
    xywh = rows[:4, kept].T
    corner = np.concatenate([xywh[:, :2] - xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)
    order: Any = cv2.dnn.NMSBoxesBatched(corner.tolist(), scores[kept].tolist(), kinds.tolist(), THRESHOLD, 0.7)
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
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--start", type=Path, metavar="ONNX", help="go on from an exported detector")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 is all cores")
    parser.add_argument("--check", type=int, default=200, metavar="N", help="held-out scenes")
    parser.add_argument("--least-f1", type=float, default=0.9, help="fail below it")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    model = train(options.steps, options.batch, options.start)
    export(model, options.output)
    print(
        f"{options.output}: {sum(p.numel() for p in model.parameters()):,} parameters, {options.output.stat().st_size:,} bytes"
    )
    return 0 if check(options.output, options.check) >= options.least_f1 else 1


if __name__ == "__main__":
    raise SystemExit(main())
