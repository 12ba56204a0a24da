"""Reports how many weights are zero; nothing is pruned here."""

from __future__ import annotations

import numpy as np
import onnx

from edgesdk_converters.graph.view import GraphView
from edgesdk_converters.quantize.units import find_units


def sparsity(model: onnx.ModelProto) -> dict[str, float]:
    """Share of zeros among the weights of every layer of a float model, 0..1, in graph order.

    Runtimes gain nothing from scattered zeros; a file does when it is compressed, and a layer of nothing but zeros can go.
    """
    view = GraphView(model)
    found: dict[str, float] = {}
    for unit in find_units(model):
        if unit.info.weight_elements and unit.row.weight is not None:
            weight = view.constant(unit.node.input[unit.row.weight])
            if weight is not None and weight.size:
                found[unit.info.name] = float(np.count_nonzero(weight == 0)) / weight.size
    return found
