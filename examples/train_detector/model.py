"""A small detector of the YOLO family: no anchors, DFL boxes, boxes and class scores behind one Concat.

The output of the exported graph is that of a YOLOv8 export: (1, 4 + classes, predictions), boxes as centre x, centre y,
width, height in pixels, scores after their sigmoid. Written from the published descriptions; no code was copied.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDES = (8, 16, 32)
BINS = 8
"""Steps of the distance from a cell's centre to a side of the box, in strides: 0..7 are 56, 112 and 224 pixels."""


class Conv(nn.Sequential):
    """Convolution, batch normalisation, ReLU: its int8 costs nothing, where SiLU is a table and a product more."""

    def __init__(self, inside: int, out: int, kernel: int = 1, stride: int = 1) -> None:
        padding = 0 if kernel == stride else kernel // 2
        super().__init__(
            nn.Conv2d(inside, out, kernel, stride, padding, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
        )


class Split(nn.Module):
    """Two halves, one of which goes through two more convolutions with a residual; all three parts are mixed."""

    def __init__(self, inside: int, out: int, *, residual: bool = True) -> None:
        super().__init__()
        self.half, self.residual = out // 2, residual
        self.enter = Conv(inside, out)
        self.first, self.second = Conv(self.half, self.half, 3), Conv(self.half, self.half, 3)
        self.leave = Conv(out + self.half, out)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, h, w) to (n, out, h, w)."""
        a, b = self.enter(x).split(self.half, dim=1)
        c = self.second(self.first(b))
        mixed: Tensor = self.leave(torch.cat((a, b, b + c if self.residual else c), dim=1))
        return mixed


class Detector(nn.Module):
    """Backbone, a neck that carries coarse features down, and a head per stride."""

    def __init__(self, classes: int, widths: tuple[int, int, int, int] = (32, 48, 64, 64), hidden: int = 32) -> None:
        super().__init__()
        b, c, d, e = widths
        self.classes = classes
        # Cells of 4 x 4 pixels at once: layers of few channels on large maps are what int8 speeds up least.
        self.stem = Conv(3, b, 4, 4)
        self.down = nn.ModuleList(nn.Sequential(Conv(i, o, 3, 2), Split(o, o)) for i, o in ((b, c), (c, d), (d, e)))
        self.up = nn.ModuleList([Split(e + d, d, residual=False), Split(d + c, c, residual=False)])
        self.trunks = nn.ModuleList(Conv(width, hidden, 3) for width in (c, d, e))
        self.boxes = nn.ModuleList(nn.Conv2d(hidden, 4 * BINS, 1) for _ in STRIDES)
        self.scores = nn.ModuleList(nn.Conv2d(hidden, classes, 1) for _ in STRIDES)
        for head in self.scores:
            # Nearly all cells see nothing; a head that begins by saying so does not spend its first steps on learning it.
            nn.init.constant_(head.bias, -4.6)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32).reshape(1, 1, BINS, 1), persistent=False)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distributions (n, 4 * BINS, predictions) and logits (n, classes, predictions)."""
        features = []
        x = self.stem(x)
        for stage in self.down:
            x = stage(x)
            features.append(x)
        c, d, e = features
        d = self.up[0](torch.cat((nn.functional.interpolate(e, scale_factor=2.0), d), dim=1))
        c = self.up[1](torch.cat((nn.functional.interpolate(d, scale_factor=2.0), c), dim=1))
        seen = [trunk(level) for trunk, level in zip(self.trunks, (c, d, e), strict=True)]
        boxes = [head(level).flatten(2) for head, level in zip(self.boxes, seen, strict=True)]
        scores = [head(level).flatten(2) for head, level in zip(self.scores, seen, strict=True)]
        return torch.cat(boxes, dim=2), torch.cat(scores, dim=2)

    def distances(self, boxes: Tensor) -> Tensor:
        """Expected distances to left, top, right, bottom in strides, (n, 4, predictions)."""
        n, _, count = boxes.shape
        return (boxes.reshape(n, 4, BINS, count).softmax(dim=2) * self.bins).sum(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, h, w), RGB 0..1, to (1, 4 + classes, predictions)."""
        boxes, scores = self.raw(x)
        centres, strides = grid(
            int(x.shape[2])
        )  # a plain number: what follows from it is constant in the exported graph
        ltrb = self.distances(boxes)
        low, high = centres - ltrb[:, :2], centres + ltrb[:, 2:]
        xywh = torch.cat(((low + high) / 2, high - low), dim=1) * strides
        return torch.cat((xywh, scores.sigmoid()), dim=1)


def grid(size: int) -> tuple[Tensor, Tensor]:
    """Centres of the cells in strides, (1, 2, predictions), and their strides, (1, 1, predictions)."""
    centres, strides = [], []
    for stride in STRIDES:
        cells = size // stride
        # Said to be float32: the exporter makes float64 of whole numbers plus a half, and everything behind them.
        line = torch.arange(cells, dtype=torch.float32) + 0.5
        y, x = torch.meshgrid(line, line, indexing="ij")
        centres.append(torch.stack((x, y)).reshape(1, 2, -1))
        strides.append(torch.full((1, 1, cells * cells), float(stride)))
    return torch.cat(centres, dim=2), torch.cat(strides, dim=2)
