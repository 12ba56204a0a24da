# ruff: noqa: T201 - standard output is how it reports to the test
"""Reads mutated models in a process of its own: `fuzz_reader.py FOLDER SEED COUNT SUFFIX`; says on stdout how each ended.

A line is printed before each case, so that the parent knows which one a crash or a hang belongs to.
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

import onnx

from edgesdk.errors import EdgeSdkError
from edgesdk_converters.frontends import Tensor, read_source
from edgesdk_converters.graph.prepare import prepare
from edgesdk_converters.graph.shapes import resolve_shapes
from edgesdk_converters.graph.simplify import random_feed
from edgesdk_converters.runner import OnnxRunner
from edgesdk_converters.spec import ModelSpec
from edgesdk_converters.tflite import normalize
from edgesdk_converters.tflite.lift import lift


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Cut off, bits flipped, bytes overwritten, a stretch removed, doubled or filled."""
    data = bytearray(content)
    kind = rng.randrange(6)
    at = rng.randrange(len(data))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(rng.choice((1, 2, 4))):
            data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    elif kind == 3:
        del data[at : at + rng.choice((1, 2, 7, 64))]
    elif kind == 4:
        data[at:at] = data[at : at + rng.choice((1, 8, 64))]
    else:
        data[at : at + rng.choice((4, 8, 32))] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x80" * 8))
    return bytes(data)


def rewrite(content: bytes, rng: random.Random) -> bytes:
    """One value of an ONNX graph changed, so that it still parses: sizes, types, names, attributes, versions."""
    model = onnx.load_from_string(content)
    graph = model.graph
    node = rng.choice([one for one in graph.node if one.input])
    number = rng.choice((-1, 0, 1, 3, 7, 2**16, 2**31 - 1, 2**31, 2**62, -(2**63)))
    kind = rng.randrange(9)
    if kind == 0:
        tensor = rng.choice([one for one in graph.initializer if one.dims])
        tensor.dims[rng.randrange(len(tensor.dims))] = number
    elif kind == 1:
        rng.choice(graph.initializer).data_type = rng.choice((0, 1, 2, 7, 8, 10, 16, 22, 99))
    elif kind == 2 and node.attribute:
        item = rng.choice(node.attribute)
        if item.ints:
            item.ints[rng.randrange(len(item.ints))] = number
        else:
            item.i = number
    elif kind == 3:
        node.op_type = rng.choice(
            ("Conv", "Reshape", "Loop", "If", "Gemm", "Transpose", "Nothing", "", "Resize", "Concat")
        )
    elif kind == 4:
        names = [name for other in graph.node for name in (*other.input, *other.output)]
        node.input[rng.randrange(len(node.input))] = rng.choice((*names, "", "nowhere"))
    elif kind == 5:
        node.output[0] = rng.choice([other.output[0] for other in graph.node])
    elif kind == 6:
        shape = graph.input[0].type.tensor_type.shape
        shape.dim[rng.randrange(len(shape.dim))].dim_value = number
    elif kind == 7:
        graph.input[0].type.tensor_type.elem_type = rng.choice((0, 2, 7, 8, 10, 14, 99))
    else:
        model.opset_import[0].version = rng.choice((7, 9, 13, 18, 21))
    return bytes(model.SerializeToString())


def _elements(tensor: Tensor) -> int:
    return math.prod(size if isinstance(size, int) else 1 for size in tensor.shape)


def main(folder: Path, seed: int, count: int, suffix: str) -> None:
    whole = (folder / f"whole{suffix}").read_bytes()
    for number in range(count):
        rng = random.Random(seed + number)
        content = rewrite(whole, rng) if suffix == ".onnx" and number % 2 else mutate(whole, rng)
        path = folder / f"case{suffix}"
        path.write_bytes(content)
        print(f"case {seed + number}", end=" ", flush=True)
        try:
            source = read_source(path, ModelSpec())
            small = sum(_elements(tensor) for tensor in source.inputs) < 100_000
            if source.format == "onnx" and small:
                shapes, _ = resolve_shapes(source, ModelSpec())
                feed = random_feed([(shapes[tensor.name], tensor.dtype, None) for tensor in source.inputs])
                runner = OnnxRunner(source.content)
                prepare(onnx.load_from_string(source.content), shapes, runner, feed, file=source.file)
            elif small:
                lift(normalize(source.content, name=source.file), name=source.file)
        except EdgeSdkError as error:
            print("refused", type(error).__name__, "" if str(error).strip() else "WITHOUT TEXT", flush=True)
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            print("ESCAPED", type(error).__name__, str(error)[:200].replace("\n", " "), flush=True)
        else:
            print("read", len(source.inputs), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
