"""ONNX to TFLite without TensorFlow.

The road of a model: `importer.read` makes a `Graph` of it (static shapes, constants computed), `patterns` and `fusion` rewrite
that graph (BatchNormalization into its convolution, activations into what feeds them, exported formulas back into one
operator), each node goes to the family that lowers its operator, `cleanup` tidies the TFLite operators, `writer` writes them.

**Layouts.** A `Value` is an ONNX tensor as it lies in the file: a `Tensor` plus its ``layout`` (physical axis ``i`` holds ONNX axis
``layout[i]``). An ONNX Transpose writes nothing: it renames axes. A convolution asks for its input channels-last and says that
its output lies so; whoever comes after follows. Data moves only where an operator needs another order than the one at
hand, so a CNN has a TRANSPOSE at its NCHW inputs and outputs and none between.

**To add a family** put a module into ``families/``; it is found by itself::

    @lowers("Softplus", int8=None)
    def softplus(ctx: Lowering, node: Node) -> None:
        x = ctx.value(node.inputs[0])                       # follow the layout that is there ...
        raised = ctx.op("EXP", [x.tensor], x.tensor.shape)
        one_more = ctx.op("ADD", [raised, ctx.const(np.float32(1))], x.tensor.shape)
        ctx.emit("LOG", [one_more], [ctx.out(node.outputs[0], x.layout)])

- ``ctx.tensor(name, layout)`` brings a tensor into a layout (None: ONNX order); an ONNX ``axis`` is ``layout.index(axis)`` in memory.
- ``ctx.constant(name)`` is a numpy array or None; ``ctx.const(array)`` and ``ctx.ints(axes)`` make constants of the file.
- Options are keyword arguments with the names of the schema's generated tables; versions are found by `versions`.
- What cannot be: ``ctx.refuse(reason, fix)``, before anything is emitted where possible. All refusals are reported together.
- ``@lowers(..., fuses=True)`` promises that the family writes ``node.activation`` into its last operator.
- ``@lowers(..., int8=Int8("same"))`` says which integer kernels exist; see `registry.Int8`.
"""

from edgesdk_converters.tflite.lower.core import expressible, lower
from edgesdk_converters.tflite.lower.registry import Int8, lowered_operators, lowers, rule_of

__all__ = ["Int8", "expressible", "lower", "lowered_operators", "lowers", "rule_of"]
