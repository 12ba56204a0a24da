"""Raises old operator sets: below 13 per-channel DequantizeLinear does not exist, and a graph with it is invalid."""

from __future__ import annotations

import onnx
from onnx import helper, version_converter

from edgesdk.errors import ConversionError

TARGET_OPSET = 17
"""What every runtime of the last years reads, and what exporters have been writing by default."""
QDQ_OPSET = 13
"""Per-channel QDQ works from here on; a model that cannot be raised further stays."""

_RESIZE_CHANGED = 11


def raise_opset(model: onnx.ModelProto, *, file: str) -> tuple[onnx.ModelProto, list[str]]:
    """A copy of ``model`` with opset >= 17, and notes about what was not possible.

    Raises:
        ConversionError: The model is older than opset 13 and onnx's version converter cannot raise it.
    """
    version = next(int(opset.version) for opset in model.opset_import if opset.domain in ("", "ai.onnx"))
    if version >= TARGET_OPSET:
        return model, []
    try:
        raised = version_converter.convert_version(model, TARGET_OPSET)
    except Exception as error:  # the converter's C++ core raises RuntimeError and its own types
        first = str(error).strip().splitlines()[0][:200]
        if version >= QDQ_OPSET:
            return model, [
                f"opset stays {version}: onnx's version converter cannot raise it to {TARGET_OPSET} ({first})"
            ]
        raise ConversionError(
            f"{file}: has opset {version}, and onnx's version converter cannot raise it to {TARGET_OPSET}: {first}. "
            f"Export the model again with opset {TARGET_OPSET}."
        ) from error
    if version < _RESIZE_CHANGED:
        _keep_resize(raised)
    # The converter keeps the IR version of 2019, in which initializers must be inputs too; 8 belongs to opset 17.
    raised.ir_version = max(int(raised.ir_version), 8)
    raised.metadata_props.extend(
        item for item in model.metadata_props if item.key not in {p.key for p in raised.metadata_props}
    )
    return raised, []


def _keep_resize(model: onnx.ModelProto) -> None:
    """Resize before opset 11 counted from the corner and rounded down; onnx's converter leaves it with today's defaults."""
    for node in model.graph.node:
        if node.op_type == "Resize" and not any(a.name == "coordinate_transformation_mode" for a in node.attribute):
            node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(helper.make_attribute("nearest_mode", "floor"))
