"""Exported formulas back into one operator: HardSwish, Gelu, 1/sqrt; HardSigmoid into what folds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from edgesdk_converters.tflite.lower.ir import Graph, Info, Node


class Rewriter:
    """Maps over a graph that stay right while nodes are replaced."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers = graph.producers()
        self.takers = graph.consumers()
        self._gone: set[int] = set()

    def maker(self, name: str, *op_types: str) -> Node | None:
        """The node that makes ``name`` if it has one of these types and nobody else takes the tensor."""
        node = self.makers.get(name)
        return node if node and node.op_type in op_types and not node.domain and self.alone(name) else None

    def any_maker(self, name: str, *op_types: str) -> Node | None:
        """The same, whoever else takes it."""
        node = self.makers.get(name)
        return node if node and node.op_type in op_types and not node.domain else None

    def alone(self, name: str) -> bool:
        """Whether a tensor has exactly one taker."""
        return len(self.takers.get(name, [])) == 1

    def taker(self, name: str, *op_types: str) -> Node | None:
        """The only node that takes ``name``, if it has one of these types."""
        takers = self.takers.get(name, [])
        fits = len(takers) == 1 and takers[0].op_type in op_types and not takers[0].domain
        return takers[0] if fits else None

    def number(self, name: str) -> float | None:
        """A constant of one element."""
        value = self.graph.constant(name)
        return (
            float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype != np.bool_ else None
        )

    def with_number(self, node: Node | None) -> tuple[str, float] | None:
        """The other operand and the number of a binary node that has one number (the second operand of Sub, Div, Pow)."""
        if node is None:
            return None
        orders = [(0, 1)] if node.op_type in ("Sub", "Div", "Pow") else [(0, 1), (1, 0)]
        for data, constant in orders:
            number = self.number(node.inputs[constant])
            other = node.inputs[data]
            # A number with more axes than the tensor gives these to the result.
            axes = len(self.graph.infos[node.inputs[constant]].shape) if number is not None else 0
            if number is not None and self.graph.constant(other) is None and axes <= len(self.graph.infos[other].shape):
                return other, number
        return None

    def add(self, value: ArrayLike, name: str) -> str:
        """A new constant."""
        while name in self.graph.infos:
            name += "_"
        data = np.asarray(value, np.float32)
        self.graph.infos[name] = Info(name, tuple(data.shape), "float32", data)
        return name

    def replace(self, old: list[Node], new: list[Node]) -> None:
        """Put ``new`` where the last of ``old`` stood."""
        position = max(self.graph.nodes.index(node) for node in old)
        self.graph.nodes[position + 1 : position + 1] = new
        self.graph.remove(old)
        self.makers, self.takers = self.graph.producers(), self.graph.consumers()


def rewrite(graph: Graph, *, to_onnx: bool = False) -> None:
    """All patterns, in place. Quantized graphs stay as they are: their nodes are already what runs.

    Args:
        graph: Changed.
        to_onnx: Only patterns whose result opset 14 has.
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.nodes):
        return
    at = Rewriter(graph)
    patterns: list[tuple[str, Callable[[Rewriter, Node], bool]]] = [
        ("Clip", _hard_swish),
        ("HardSigmoid", _hard_swish_of_sigmoid),
        ("HardSigmoid", _hard_sigmoid),
    ]
    if not to_onnx:
        patterns += [("Erf", _gelu_erf), ("Tanh", _gelu_tanh), ("Div", _rsqrt)]
        _split(at)
    for op_type, pattern in patterns:
        for node in [node for node in graph.nodes if node.op_type == op_type and not node.domain]:
            pattern(at, node)


def _same(at: Rewriter, first: str, second: str) -> bool:
    return at.graph.infos[first].shape == at.graph.infos[second].shape


def _hard_swish(at: Rewriter, clip: Node) -> bool:
    """The formula x * clip(x + 3, 0, 6) / 6, the sixth wherever it stands."""
    shifted = at.maker(clip.inputs[0], "Add")
    found = at.with_number(shifted)
    if shifted is None or found is None or found[1] != 3.0:
        return False
    if (at.number(clip.input(1)), at.number(clip.input(2))) != (0.0, 6.0):
        return False
    x, nodes, last, sixth = found[0], [shifted, clip], clip, False
    for _ in range(2):
        following = at.taker(last.outputs[0], "Mul", "Div")
        if following is None:
            return False
        scaled = at.with_number(following)
        if scaled is not None and scaled[0] == last.outputs[0] and not sixth:
            factor = scaled[1] if following.op_type == "Mul" else 1 / scaled[1]
            if abs(factor * 6 - 1) > 1e-5:
                return False
            sixth = True
        elif following.op_type == "Mul" and x in following.inputs:
            pass
        else:
            return False
        nodes.append(following)
        last = following
    if not sixth:
        return False
    at.replace(nodes, [Node("HardSwish", last.name, [x], [last.outputs[0]])])
    return True


def _hard_swish_of_sigmoid(at: Rewriter, node: Node) -> bool:
    """The product x * HardSigmoid(x) with slope 1/6."""
    if abs(node.attribute("alpha", 0.2) - 1 / 6) > 1e-6 or node.attribute("beta", 0.5) != 0.5:
        return False
    product = at.taker(node.outputs[0], "Mul")
    if product is None or set(product.inputs) != {node.inputs[0], node.outputs[0]}:
        return False
    at.replace([node, product], [Node("HardSwish", product.name, [node.inputs[0]], [product.outputs[0]])])
    return True


def _hard_sigmoid(at: Rewriter, node: Node) -> bool:
    """Behind a convolution: clip(6 alpha x + 6 beta, 0, 6) / 6, of which the convolution takes all but the sixth."""
    if node not in at.graph.nodes or at.maker(node.inputs[0], "Conv") is None:
        return False
    alpha, beta = float(node.attribute("alpha", 0.2)), float(node.attribute("beta", 0.5))
    info, name = at.graph.infos[node.outputs[0]], node.outputs[0]
    inner = [f"{name}/{part}" for part in ("scaled", "shifted", "clipped")]
    for part in inner:
        at.graph.infos[part] = Info(part, info.shape, info.dtype)
    constants = [
        at.add(np.float32(v), f"{name}/{k}")
        for k, v in (("a", 6 * alpha), ("b", 6 * beta), ("s", 1 / 6), ("0", 0), ("6", 6))
    ]
    nodes = [
        Node("Mul", f"{node.name}/scale", [node.inputs[0], constants[0]], [inner[0]]),
        Node("Add", f"{node.name}/shift", [inner[0], constants[1]], [inner[1]]),
        Node("Clip", f"{node.name}/clip", [inner[1], constants[3], constants[4]], [inner[2]]),
        Node("Mul", node.name, [inner[2], constants[2]], [name]),
    ]
    at.replace([node], nodes)
    return True


def _gelu_erf(at: Rewriter, erf: Node) -> bool:
    """The formula 0.5 * x * (1 + erf(x / sqrt(2))), in any order of the factors."""
    inner = at.maker(erf.inputs[0], "Mul", "Div")
    found = at.with_number(inner)
    plus = at.taker(erf.outputs[0], "Add")
    one = at.with_number(plus)
    if inner is None or found is None or plus is None or one is None or one[1] != 1.0:
        return False
    factor = found[1] if inner.op_type == "Mul" else 1 / found[1]
    if abs(factor - 0.5**0.5) > 1e-4:
        return False
    return _half_times(at, found[0], [inner, erf, plus], plus, approximate="none")


def _half_times(at: Rewriter, x: str, nodes: list[Node], last: Node, *, approximate: str) -> bool:
    """From ``last`` on: times x and times 0.5, in either order or as one product with 0.5 * x."""
    half = times = False
    for _ in range(2):
        following = at.taker(last.outputs[0], "Mul", "Div")
        if following is None:
            return False
        scaled = at.with_number(following)
        other = next((name for name in following.inputs if name != last.outputs[0]), "")
        if scaled is not None and scaled[0] == last.outputs[0]:
            value = scaled[1] if following.op_type == "Mul" else 1 / scaled[1]
            if half or value != 0.5:
                return False
            half = True
        elif following.op_type == "Mul" and other == x and not times:
            times = True
        elif following.op_type == "Mul" and not times and not half:
            halved = at.maker(other, "Mul", "Div")
            found = at.with_number(halved)
            if halved is None or found is None or found[0] != x:
                return False
            if (found[1] if halved.op_type == "Mul" else 1 / found[1]) != 0.5:
                return False
            nodes.append(halved)
            half = times = True
        else:
            return False
        nodes.append(following)
        last = following
        if half and times:
            attributes = {"approximate": approximate}
            at.replace(nodes, [Node("Gelu", last.name, [x], [last.outputs[0]], attributes)])
            return True
    return False


def _gelu_tanh(at: Rewriter, tanh: Node) -> bool:
    """0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))."""
    plus = at.taker(tanh.outputs[0], "Add")
    one = at.with_number(plus)
    outer = at.maker(tanh.inputs[0], "Mul")
    scaled = at.with_number(outer)
    if plus is None or one is None or one[1] != 1.0 or outer is None or scaled is None:
        return False
    total = at.maker(scaled[0], "Add")
    if total is None or abs(scaled[1] - (2 / np.pi) ** 0.5) > 1e-4:
        return False
    for x, cubed in (total.inputs, total.inputs[::-1]):
        scale = at.maker(cubed, "Mul")
        found = at.with_number(scale)
        cube = at.maker(found[0], "Pow") if found else None
        power = at.with_number(cube)
        if scale is None or found is None or cube is None or power is None:
            continue
        if power == (x, 3.0) and abs(found[1] - 0.044715) < 1e-5:
            return _half_times(at, x, [cube, scale, total, outer, tanh, plus], plus, approximate="tanh")
    return False


def _rsqrt(at: Rewriter, division: Node) -> bool:
    """Turn a / sqrt(b) into a * rsqrt(b)."""
    root = at.maker(division.inputs[1], "Sqrt")
    if root is None or at.graph.infos[root.outputs[0]].dtype != "float32":
        return False
    inverse = Node("Rsqrt", root.name, root.inputs, root.outputs, {}, "edgesdk")
    product = Node("Mul", division.name, division.inputs, division.outputs)
    if at.number(division.inputs[0]) == 1.0 and _same(at, division.outputs[0], root.outputs[0]):
        inverse.outputs = division.outputs
        at.replace([root, division], [inverse])
    else:
        at.replace([root, division], [inverse, product])
    return True


def _split(at: Rewriter) -> None:
    """Slices that cut a tensor into all its parts along one axis are one Split."""
    for name, takers in list(at.takers.items()):
        slices = [node for node in takers if node.op_type == "Slice" and not node.domain and node.inputs[0] == name]
        if len(slices) < 2 or name not in at.graph.infos:
            continue
        shape = at.graph.infos[name].shape
        cuts = [_cut(at, node, shape) for node in slices]
        if any(cut is None for cut in cuts):
            continue
        ordered = sorted((cut, node.outputs[0]) for cut, node in zip(cuts, slices, strict=True) if cut is not None)
        axis, position = ordered[0][0][0], 0
        for (along, start, stop), _ in ordered:
            if along != axis or start != position:
                break
            position = stop
        else:
            if position == shape[axis]:
                first = min(at.graph.nodes.index(node) for node in slices)
                made = Node("Split", slices[0].name, [name], [output for _, output in ordered], {"axis": axis})
                at.graph.nodes.insert(first, made)
                at.replace(slices, [])


def _cut(at: Rewriter, node: Node, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """(axis, start, stop) of a Slice along one axis with step 1."""
    names = (*node.inputs[1:], "", "")[:4]
    values = [at.graph.constant(name) if name else None for name in names]
    if any(name and value is None for name, value in zip(names, values, strict=True)):
        return None
    starts, stops, axes, steps = values
    if starts is None or stops is None or starts.size != 1 or (steps is not None and steps.reshape(-1)[0] != 1):
        return None
    axis = int(axes.reshape(-1)[0]) % len(shape) if axes is not None else 0
    start, stop, _ = slice(int(starts.reshape(-1)[0]), int(stops.reshape(-1)[0])).indices(shape[axis])
    return axis, start, stop
