"""Finds tensors below whose floor nothing is read: integers for what lies there would be wasted.

HardSwish is 0 from -3 downwards. A convolution in front of it often reaches far below (PP-OCR's recognizer does): a range that covered
that would spend many of its steps on values that all mean 0.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.quantize.histogram import Histogram, Range, Statistics

HARD_SWISH_FLOOR = -3.0


def floors(model: onnx.ModelProto) -> dict[str, float]:
    """By tensor: the value below which all its readers give what they give there. Outputs of the graph have none."""
    view = GraphView(model)
    return {
        name: HARD_SWISH_FLOOR
        for name, readers in view.consumers.items()
        if readers and name not in view.outputs and all(node.op_type == "HardSwish" for node in readers)
    }


def above(seen: Statistics, floor: float) -> Statistics:
    """The statistics without what lies below ``floor``, which costs nothing to lose."""
    if seen.low >= floor:
        return seen
    kept = Histogram()
    kept.reach, kept.zeros = seen.histogram.reach, seen.histogram.zeros
    kept.counts = np.where(seen.histogram.centres >= floor, seen.histogram.counts, 0)
    return Statistics(low=floor, high=seen.high, infinite=seen.infinite, histogram=kept)


def lifted(span: Range, floor: float) -> Range:
    """A range that a calibrator chose by other means than the statistics, cut as well."""
    return Range(max(span.low, floor), span.high)
