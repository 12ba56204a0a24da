"""Recurrent operators whose batch comes first."""

from __future__ import annotations

from edgesdk_converters.tflite.lower.sketch import Sketch, spells

_STATES = (5, 6)


@spells("LSTM", "GRU", "RNN")
def batch_first(s: Sketch) -> None:
    """The same operator with its time axis first, between transposes."""
    if not s.attribute("layout", 0):
        s.refuse("it is not one that can be unrolled", "Export it without sequence lengths, peepholes and clipping")
    inputs = list(s.node.inputs)
    inputs[0] = s.op("Transpose", s.x, perm=[1, 0, 2])
    for place in _STATES:
        if s.input(place):
            inputs[place] = s.op("Transpose", s.input(place), perm=[1, 0, 2])
    attributes = {**s.node.attributes, "layout": 0}
    made = s.outs(s.node.op_type, *inputs, outputs=len(s.node.outputs), **attributes)
    turned = [
        s.op("Transpose", name, perm=[2, 0, 1, 3] if place == 0 else [1, 0, 2])
        for place, name in enumerate(made)
        if s.used(place)
    ]
    used = iter(turned)
    s.result(*(next(used) if s.used(place) else "" for place in range(len(made))))
