"""The models that are compared, each with its data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Contract
from edgesdk.profiles import load_profile
from edgesdk_converters.calibration import CalibrationSet, media_of
from edgesdk_converters.contract import build_contract
from edgesdk_converters.frontends import read_source
from edgesdk_converters.progress import Quiet
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec, read_spec
from edgesdk_converters.variants.opening import open_family
from tests.benchmarks.convert import data

Array = NDArray[Any]
DEVICE = "raspberry-pi-5"
"""A board whose int8 arithmetic does not saturate, like that of this benchmark's x86 machines with VNNI."""

_KWS_SPEC = "task: raw\noutputs:\n  y: {class_axis: 1}\n"


@dataclass
class Row:
    """One model."""

    name: str
    cache: Path
    quick: bool = False
    _made: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def folder(self) -> Path:
        """Calibration and evaluation samples."""
        return data.folders(self.name, self.cache)

    @cached_property
    def source(self) -> Path:
        """The model as a user has it."""
        from edgesdk_converters.zoo import fetch, onnx_file

        if self.name == "kws-ds-cnn":
            return data.KWS / "ds_cnn_fp32.onnx"
        if self.name == "detector":
            return data.DETECTOR / "detector.onnx"
        return fetch("blazeface-short") if self.name == "blazeface" else onnx_file(self.name)

    @cached_property
    def spec(self) -> Path | None:
        """Its `model.yaml`."""
        from edgesdk_converters.zoo.catalog import spec_path

        if self.name == "kws-ds-cnn":
            path = self.cache / "kws.yaml"
            path.write_text(_KWS_SPEC, "utf-8")
            return path
        return spec_path("blazeface-short" if self.name == "blazeface" else self.name)

    @cached_property
    def _prepared(self) -> tuple[bytes, Contract]:
        spec = read_spec(self.spec) if self.spec is not None else ModelSpec()
        source = read_source(self.source, spec)
        family = open_family(source, spec, load_profile(DEVICE), ("onnx",), Quiet())
        contract, _ = build_contract(
            source,
            spec,
            shapes=family.shapes,
            outputs=family.outputs,
            branches=family.branches,
            media=media_of(self.folder / "calibration"),
        )
        return _full_width(family.floats()[0].content), contract

    @property
    def content(self) -> bytes:
        """The float ONNX that every road starts from: shapes pinned, opset 17, simplified. Kinder to the peers than the source."""
        return self._prepared[0]

    @property
    def contract(self) -> Contract:
        """What the float model's tensors mean."""
        return self._prepared[1]

    @cached_property
    def float_runner(self) -> OnnxRunner:
        """The float model in ONNX Runtime, one thread, in the contract's order."""
        names = [one.name for one in self.contract.inputs], [one.name for one in self.contract.outputs]
        return OnnxRunner(self.content, order=names)

    def feeds(self, part: str, contract: Contract | None = None) -> Sequence[list[Array]]:
        """Inputs of the calibration or the evaluation samples, for this contract or the float model's."""
        found = CalibrationSet.from_folder(self.folder / part, contract or self.contract).feeds
        step = 5 if self.quick and part == "evaluation" else 1
        return found[::step]

    @cached_property
    def expected(self) -> list[list[Array]]:
        """The float model's answers on the evaluation samples."""
        return [[np.array(value) for value in self.float_runner.run(feed)] for feed in self.feeds("evaluation")]

    @cached_property
    def truth(self) -> Any:
        """What is known about the evaluation samples."""
        found = json.loads((self.folder / "truth.json").read_text("utf-8"))
        if self.name == "detector":
            found = list(found.values())
        return found[::5] if self.quick and isinstance(found, list) else found

    def stacked(self, most: int = 128) -> dict[str, Array]:
        """Calibration samples for the peers: arrays by input name with a leading sample axis."""
        feeds = list(self.feeds("calibration"))[:most]
        return {spec.name: np.stack([feed[index] for feed in feeds]) for index, spec in enumerate(self.contract.inputs)}


def _full_width(content: bytes) -> bytes:
    """float16 weights as float32 ones: the peers take a weight behind a Cast for an activation."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load_from_string(content)
    graph = model.graph
    halves = {one.name: one for one in graph.initializer if one.data_type == onnx.TensorProto.FLOAT16}
    for node in [one for one in graph.node if one.op_type == "Cast" and one.input[0] in halves]:
        values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for one in [one for name, one in halves.items() if name not in read]:
        graph.initializer.remove(one)
    return bytes(model.SerializeToString(deterministic=True))


NAMES = tuple(data.BUILDERS)
