"""Makes small ONNX graphs from a source of random numbers: operators, layouts, axes and attributes in mixtures nobody would write."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
LARGEST = 4000
"""Elements of a tensor."""
OPSET = 18


class GraphMaker:
    """A graph that grows by one operator at a time; each takes a tensor that is there."""

    def __init__(self, source: random.Random) -> None:
        self.random = source
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: dict[str, tuple[int, ...]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Of every float tensor so far."""
        self.weights: Any = np.random.default_rng(source.randrange(1 << 30))

    # -- parts ----------------------------------------------------------------------------------------------------

    def input(self, rank: int) -> str:
        """A graph input."""
        name = f"in{len(self.inputs)}"
        shape = tuple(self.random.randint(1, 7) for _ in range(rank))
        self.inputs[name] = self.shapes[name] = shape
        return name

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """A constant."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """Axes, shapes, bounds."""
        return self.constant(values, "int64")

    def normal(self, *shape: int) -> str:
        """Weights."""
        return self.constant(self.weights.normal(0, 0.5, shape))

    def any(self, *ranks: int) -> str | None:
        """A tensor that is there, the newest ones more often."""
        found = [name for name, shape in self.shapes.items() if not ranks or len(shape) in ranks]
        return self.random.choice(found[-3:] if self.random.random() < 0.7 else found) if found else None

    def add(self, op: str, inputs: list[str], *, outputs: int = 1, keep: bool = True, **attributes: Any) -> list[str]:
        """Append a node if ONNX finds shapes for it that are static, small and not empty; [] otherwise."""
        made = [f"t{len(self.nodes)}_{index}" for index in range(outputs)]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        node = helper.make_node(op, inputs, made, name=f"{op}{len(self.nodes)}", **attributes)
        shapes = self._infer([*self.nodes, node], made)
        if shapes is None or any(
            min(shape, default=1) < 1 or np.prod(shape) > LARGEST or len(shape) > 5 for shape in shapes
        ):
            return []
        self.nodes.append(node)
        if keep:
            self.shapes.update(zip(made, shapes, strict=True))
        return made

    def _infer(self, nodes: list[onnx.NodeProto], names: list[str]) -> list[tuple[int, ...]] | None:
        try:
            model = onnx.shape_inference.infer_shapes(self._model(nodes, []), strict_mode=True, data_prop=True)
        except (RuntimeError, ValueError):
            return None
        found = {value.name: value.type.tensor_type for value in model.graph.value_info}
        if not all(name in found and found[name].HasField("shape") for name in names):
            return None
        dims = [found[name].shape.dim for name in names]
        if not all(dim.HasField("dim_value") for each in dims for dim in each):
            return None
        return [tuple(dim.dim_value for dim in each) for each in dims]

    def _model(self, nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in self.inputs.items()
        ]
        results = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, self.shapes.get(name)) for name in outputs
        ]
        graph = helper.make_graph(nodes, "random", inputs, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)

    def model(self) -> onnx.ModelProto:
        """The graph; its outputs are what nobody takes, and sometimes something in between."""
        taken = {name for node in self.nodes for name in node.input}
        made = [name for name in self.shapes if name not in self.inputs]
        outputs = [name for name in made if name not in taken]
        outputs += [name for name in made if name in taken and self.random.random() < 0.1]
        return self._model(self.nodes, outputs)

    # -- operators ------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        """One more operator, if what was drawn fits."""
        getattr(self, self.random.choice(OPERATORS))()

    def _window(self, name: str) -> dict[str, Any]:
        spatial = len(self.shapes[name]) - 2
        kernel = [self.random.randint(1, 3) for _ in range(spatial)]
        found: dict[str, Any] = {"kernel_shape": kernel}
        if self.random.random() < 0.7:
            found["strides"] = [self.random.randint(1, 3) for _ in range(spatial)]
        pads = self.random.choice(("none", "explicit", "explicit", "SAME_UPPER", "SAME_LOWER", "VALID"))
        if pads == "explicit":
            found["pads"] = [self.random.randint(0, kernel[i % spatial] - 1) for i in range(2 * spatial)]
        elif pads != "none":
            found["auto_pad"] = pads
        return found

    def conv(self) -> None:
        name = self.any(3, 4)
        if name is None:
            return
        window, channels = self._window(name), self.shapes[name][1]
        if self.random.random() < 0.3 and "auto_pad" not in window:
            window["dilations"] = [self.random.randint(1, 2) for _ in window["kernel_shape"]]
        group = self.random.choice([g for g in range(1, channels + 1) if channels % g == 0])
        out = group * self.random.randint(1, 3)
        inputs = [name, self.normal(out, channels // group, *window["kernel_shape"])]
        if self.random.random() < 0.6:
            inputs.append(self.normal(out))
        made = self.add("Conv", inputs, group=group, **window)
        if made and self.random.random() < 0.5:
            self._after(made[0])

    def _after(self, name: str) -> None:
        channels = self.shapes[name][1]
        what = self.random.choice(("Relu", "Clip", "BatchNormalization", "Mul", "Add", "HardSwish"))
        if what == "Clip":
            self.add("Clip", [name, self.constant(0.0), self.constant(6.0)])
        elif what == "BatchNormalization":
            variance = self.constant(np.abs(self.weights.normal(1, 0.3, channels)) + 0.1)
            self.add(what, [name, self.normal(channels), self.normal(channels), self.normal(channels), variance])
        elif what in ("Mul", "Add"):
            shape = self.random.choice(
                ([], [channels, *[1] * (len(self.shapes[name]) - 2)], [1] * len(self.shapes[name]))
            )
            self.add(what, [name, self.normal(*shape)])
        else:
            self.add(what, [name])

    def conv_transpose(self) -> None:
        name = self.any(3, 4)
        if name is None:
            return
        window, channels = self._window(name), self.shapes[name][1]
        spatial = len(window["kernel_shape"])
        group = self.random.choice([g for g in range(1, channels + 1) if channels % g == 0])
        if self.random.random() < 0.3:
            window["dilations"] = [self.random.randint(1, 2) for _ in range(spatial)]
        if self.random.random() < 0.3:
            window["output_padding"] = [self.random.randint(0, s - 1) for s in window.get("strides", [1] * spatial)]
        out = self.random.randint(1, 3)
        inputs = [name, self.normal(channels, out, *window["kernel_shape"])]
        if self.random.random() < 0.6:
            inputs.append(self.normal(out * group))
        self.add("ConvTranspose", inputs, group=group, **window)

    def pool(self) -> None:
        name = self.any(3, 4)
        if name is None:
            return
        op, window = self.random.choice(("MaxPool", "AveragePool", "LpPool")), self._window(name)
        if "auto_pad" not in window:
            window["ceil_mode"] = self.random.randint(0, 1)
        if op == "AveragePool":
            window["count_include_pad"] = self.random.randint(0, 1)
        if op == "MaxPool" and self.random.random() < 0.3 and "auto_pad" not in window:
            window["dilations"] = [self.random.randint(1, 2) for _ in window["kernel_shape"]]
        self.add(op, [name], **window)

    def global_pool(self) -> None:
        if name := self.any(3, 4, 5):
            self.add(self.random.choice(("GlobalMaxPool", "GlobalAveragePool")), [name])

    def resize(self) -> None:
        name = self.any(3, 4)
        if name is None:
            return
        shape = self.shapes[name]
        mode = self.random.choice(("nearest", "nearest", "linear", "linear", "cubic"))
        transforms = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
        attributes: dict[str, Any] = {
            "mode": mode,
            "coordinate_transformation_mode": self.random.choice(transforms),
        }
        if mode == "nearest":
            attributes["nearest_mode"] = self.random.choice(
                ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
            )
        if mode == "cubic" and len(shape) != 4:
            return
        if self.random.random() < 0.5:
            sizes = [*shape[:2], *(max(1, self.random.randint(1, 2 * s)) for s in shape[2:])]
            self.add("Resize", [name, "", "", self.ints(*sizes)], **attributes)
        else:
            factors = [1.0, 1.0, *(self.random.choice((0.5, 0.6, 1.5, 2.0, 3.0)) for _ in shape[2:])]
            self.add("Resize", [name, "", self.constant(factors)], **attributes)

    def concat(self) -> None:
        name = self.any(1, 2, 3, 4, 5)
        if name is None:
            return
        shape = self.shapes[name]
        axis = self.random.randrange(len(shape))
        fits = [
            other
            for other, its in self.shapes.items()
            if len(its) == len(shape)
            and all(a == b for i, (a, b) in enumerate(zip(its, shape, strict=True)) if i != axis)
        ]
        parts = [name, *(self.random.choice(fits) for _ in range(self.random.randint(1, 2)))]
        if self.random.random() < 0.3:
            parts.append(self.normal(*(2 if i == axis else size for i, size in enumerate(shape))))
        self.random.shuffle(parts)
        self.add("Concat", parts, axis=axis - self.random.choice((0, len(shape))))

    def split(self) -> None:
        name = self.any(1, 2, 3, 4, 5)
        if name is None:
            return
        axis = self.random.randrange(len(self.shapes[name]))
        size = self.shapes[name][axis]
        if size == 1:
            return
        if self.random.random() < 0.5:
            self.add("Split", [name], outputs=2, axis=axis, num_outputs=2)
        else:
            first = self.random.randint(1, size - 1)
            self.add("Split", [name, self.ints(first, size - first)], outputs=2, axis=axis - len(self.shapes[name]))

    def slice(self) -> None:
        name = self.any(1, 2, 3, 4, 5)
        if name is None:
            return
        shape = self.shapes[name]
        axes = self.random.sample(range(len(shape)), self.random.randint(1, min(2, len(shape))))
        rows = []
        for axis in axes:
            step = self.random.choice((1, 1, 1, 2, 3, -1, -2))
            bounds = [self.random.randint(-shape[axis] - 1, shape[axis] + 1) for _ in range(2)]
            if self.random.random() < 0.4:
                bounds[1] = (1 << 40) * (1 if step > 0 else -1)
            rows.append((*bounds, axis - self.random.choice((0, len(shape))), step))
        starts, ends, chosen, steps = zip(*rows, strict=True)
        self.add("Slice", [name, self.ints(*starts), self.ints(*ends), self.ints(*chosen), self.ints(*steps)])

    def transpose(self) -> None:
        if name := self.any(2, 3, 4, 5):
            order = list(range(len(self.shapes[name])))
            self.random.shuffle(order)
            self.add("Transpose", [name], perm=order if self.random.random() < 0.9 else None)

    def reshape(self) -> None:
        name = self.any()
        if name is None:
            return
        left = int(np.prod(self.shapes[name]))
        target: list[int] = []
        while left > 1 and len(target) < 4:
            factor = self.random.choice([f for f in range(1, left + 1) if left % f == 0])
            target.append(factor)
            left //= factor
        target.append(left)
        self.random.shuffle(target)
        target[self.random.randrange(len(target))] = -1
        self.add("Reshape", [name, self.ints(*target)])

    def flat(self) -> None:
        name = self.any()
        if name is None:
            return
        rank = len(self.shapes[name])
        what = self.random.choice(("Flatten", "Squeeze", "Unsqueeze", "FlattenGemm"))
        if what == "Flatten":
            self.add("Flatten", [name], axis=self.random.randint(-rank, rank))
        elif what == "Unsqueeze":
            self.add("Unsqueeze", [name, self.ints(self.random.randint(-rank - 1, rank))])
        elif what == "Squeeze":
            ones = [axis for axis, size in enumerate(self.shapes[name]) if size == 1]
            if ones:
                self.add("Squeeze", [name, self.ints(self.random.choice(ones))])
        elif rank > 1 and (made := self.add("Flatten", [name])):
            size = self.shapes[made[0]][1]
            self.add("Gemm", [made[0], self.normal(size, 3), self.normal(3)])

    def reduce(self) -> None:
        name = self.any()
        if name is None:
            return
        rank = len(self.shapes[name])
        ops = ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare")
        op = self.random.choice((*ops, "ReduceLogSumExp"))
        axes = [
            axis - self.random.choice((0, rank))
            for axis in self.random.sample(range(rank), self.random.randint(0, rank))
        ]
        inputs = [name, self.ints(*axes)] if axes or self.random.random() < 0.3 else [name]
        self.add(op, inputs, keepdims=self.random.randint(0, 1), noop_with_empty_axes=self.random.choice((None, 0, 1)))

    def binary(self) -> None:
        name = self.any()
        if name is None:
            return
        shape = self.shapes[name]
        op = self.random.choice(("Add", "Sub", "Mul", "Max", "Min", "Div", "Mean", "Sum"))
        others = [other for other, its in self.shapes.items() if _broadcast(its, shape)]
        if self.random.random() < 0.5 and len(others) > 1 and op != "Div":
            other = self.random.choice(others)
        else:
            its = [1 if self.random.random() < 0.4 else size for size in shape][self.random.randint(0, len(shape)) :]
            its = [1] * self.random.choice((0, 0, 0, 1)) + its if len(its) == len(shape) < 5 else its
            other = self.constant(self.weights.uniform(0.5, 1.5, its))
        pair = [name, other] if op == "Div" or self.random.random() < 0.5 else [other, name]
        self.add(op, pair)

    def where(self) -> None:
        name, other = self.any(), self.any()
        if name is None or other is None or not _broadcast(self.shapes[name], self.shapes[other]):
            return
        if made := self.add("Less", [name, self.constant(0.1)], keep=False):
            self.add("Where", [made[0], name, other])

    def product(self) -> None:
        name = self.any(1, 2, 3, 4)
        if name is None:
            return
        shape = self.shapes[name]
        what = self.random.choice(("constant", "left", "computed", "Gemm"))
        if what == "constant":
            made = self.add("MatMul", [name, self.normal(shape[-1], self.random.randint(1, 4))])
            if made and self.random.random() < 0.5:
                self.add("Add", [made[0], self.normal(self.shapes[made[0]][-1])])
        elif what == "left" and len(shape) > 1:
            self.add("MatMul", [self.normal(self.random.randint(1, 4), shape[-2]), name])
        elif what == "computed":
            fits = [o for o, its in self.shapes.items() if len(its) > 1 and its[-2] == shape[-1]]
            if fits:
                self.add("MatMul", [name, self.random.choice(fits)])
        elif what == "Gemm" and len(shape) == 2:
            turn, other = self.random.randint(0, 1), self.random.randint(0, 1)
            inner, rows, columns = shape[0 if turn else 1], shape[1 if turn else 0], self.random.randint(1, 4)
            weights = self.normal(columns, inner) if other else self.normal(inner, columns)
            bias = self.random.choice(([], [columns], [1, columns], [rows, columns], [rows, 1], None))
            inputs = [name, weights, *([self.normal(*bias)] if bias is not None else [])]
            alpha, beta = (self.random.choice((None, 0.5)) for _ in range(2))
            self.add("Gemm", inputs, transA=turn, transB=other, alpha=alpha, beta=beta)

    def normalise(self) -> None:
        name = self.any(2, 3, 4, 5)
        if name is None:
            return
        shape, rank = self.shapes[name], len(self.shapes[name])
        what = self.random.choice(NORMALISATIONS)
        axis = self.random.randint(-rank, rank - 1)
        if what == "LayerNormalization":
            self.add(what, [name, self.normal(*shape[axis % rank :]), self.normal(*shape[axis % rank :])], axis=axis)
        elif what == "InstanceNormalization" and rank > 2:
            if np.prod(shape[2:]) > 2:
                self.add(what, [name, self.normal(shape[1]), self.normal(shape[1])])
        elif what == "BatchNormalization":
            variance = self.constant(np.abs(self.weights.normal(1, 0.3, shape[1])) + 0.1)
            self.add(what, [name, self.normal(shape[1]), self.normal(shape[1]), self.normal(shape[1]), variance])
        elif what == "LRN" and rank == 4:
            self.add(what, [name], size=self.random.choice((1, 3, 5)), alpha=0.1)
        elif what in ("Softmax", "LogSoftmax", "LpNormalization"):
            self.add(what, [name], axis=axis)

    def unary(self) -> None:
        name = self.any()
        if name is None:
            return
        op = self.random.choice(UNARY)
        shape = self.shapes[name]
        if op == "Clip":
            bounds = self.random.choice(((0.0, 6.0), (-1.0, 1.0), (0.0, None), (None, 0.5), (-0.3, 0.7)))
            inputs = [name, *(self.constant(bound) if bound is not None else "" for bound in bounds)]
            self.add(op, inputs[:2] if inputs[-1] == "" else inputs)
        elif op == "PRelu":
            its = [1 if self.random.random() < 0.4 else size for size in shape]
            self.add(op, [name, self.normal(*its[self.random.randint(0, len(its)) :])])
        elif op == "Gelu":
            inner = self.add("Div", [name, self.constant(2**0.5)], keep=False)
            erf = inner and self.add("Erf", inner, keep=False)
            plus = erf and self.add("Add", [erf[0], self.constant(1.0)], keep=False)
            times = plus and self.add("Mul", [name, plus[0]], keep=False)
            if times:
                self.add("Mul", [times[0], self.constant(0.5)])
        elif op == "Sqrt":
            size = self.add("Abs", [name], keep=False)
            safe = size and self.add("Add", [size[0], self.constant(1.0)], keep=False)
            root = safe and self.add("Sqrt", safe, keep=False)
            if root:
                self.add("Div", [name, root[0]])
        else:
            self.add(op, [name])

    def pad(self) -> None:
        name = self.any(1, 2, 3, 4, 5)
        if name is None:
            return
        shape = self.shapes[name]
        mode = self.random.choice(("constant", "constant", "reflect", "edge", "wrap"))
        low = -1 if mode == "constant" and self.random.random() < 0.3 else 0
        amounts = [
            self.random.randint(low, min(2, size - 1)) if self.random.random() < 0.5 else 0 for size in (*shape, *shape)
        ]
        if any(
            size + a + b < 1 for size, a, b in zip(shape, amounts[: len(shape)], amounts[len(shape) :], strict=True)
        ):
            return
        inputs = [name, self.ints(*amounts)]
        if mode == "constant" and self.random.random() < 0.5:
            inputs.append(self.constant(self.random.choice((0.0, 1.5))))
        self.add("Pad", inputs, mode=mode)

    def gather(self) -> None:
        name = self.any(1, 2, 3, 4)
        if name is None:
            return
        shape = self.shapes[name]
        axis = self.random.randrange(len(shape))
        its = self.random.choice(([], [1], [3], [2, 2]))
        indices = self.weights.integers(-shape[axis], shape[axis], its)
        self.add("Gather", [name, self.constant(indices, "int64")], axis=axis - self.random.choice((0, len(shape))))

    def spread(self) -> None:
        name = self.any(1, 2, 3, 4)
        if name is None:
            return
        shape, what = self.shapes[name], self.random.choice(("Tile", "Expand", "CumSum", "TopK", "Trilu"))
        if what == "Tile":
            self.add("Tile", [name, self.ints(*(self.random.randint(1, 2) for _ in shape))])
        elif what == "Expand":
            target = [size if size > 1 else self.random.randint(1, 3) for size in shape]
            self.add("Expand", [name, self.ints(*[2] * self.random.randint(0, 1), *target)])
        elif what == "CumSum":
            along = self.constant(self.random.randint(-len(shape), len(shape) - 1), "int64")
            self.add(what, [name, along], reverse=self.random.randint(0, 1), exclusive=self.random.randint(0, 1))
        elif what == "Trilu" and len(shape) > 1:
            self.add(what, [name], upper=self.random.randint(0, 1))
        elif what == "TopK":
            axis = self.random.randint(-len(shape), len(shape) - 1)
            count = self.ints(self.random.randint(1, shape[axis]))
            made = self.add(what, [name, count], outputs=2, axis=axis, largest=self.random.randint(0, 1))
            if made:
                del self.shapes[made[1]]

    def blocks(self) -> None:
        name = self.any(4)
        if name is None:
            return
        if self.random.random() < 0.5:
            self.add("SpaceToDepth", [name], blocksize=2)
        elif self.shapes[name][1] % 4 == 0:
            self.add("DepthToSpace", [name], blocksize=2, mode=self.random.choice(("DCR", "CRD")))


def _broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    try:
        return len(np.broadcast_shapes(one, other)) <= 5
    except ValueError:
        return False


OPERATORS = (
    "conv", "conv", "conv", "conv_transpose", "pool", "pool", "global_pool", "resize", "concat", "concat", "split", "slice",
    "transpose", "transpose", "reshape", "reshape", "flat", "reduce", "binary", "binary", "binary", "where", "product", "normalise",
    "unary", "unary", "pad", "gather", "spread", "blocks",
)  # fmt: skip


NORMALISATIONS = (
    "Softmax", "LogSoftmax", "LayerNormalization", "InstanceNormalization", "BatchNormalization", "LRN", "LpNormalization",
)  # fmt: skip
UNARY = (
    "Relu", "Sigmoid", "Tanh", "Abs", "Neg", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish", "Softplus", "Erf", "Identity",
    "Dropout", "Softsign", "Clip", "PRelu", "Gelu", "Sqrt",
)  # fmt: skip


def random_model(source: random.Random, steps: int) -> onnx.ModelProto:
    """A model of about ``steps`` operators."""
    maker = GraphMaker(source)
    maker.input(source.choice((4, 4, 4, 3, 2, 5)))
    if source.random() < 0.3:
        maker.input(source.choice((4, 3, 2, 1)))
    for _ in range(100):
        if len(maker.nodes) >= steps:
            break
        maker.grow()
    return maker.model()
