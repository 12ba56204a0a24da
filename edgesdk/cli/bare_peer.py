"""The peer that `edgesdk bench` compares with: the runtime alone, as its own documentation shows it.

Needs nothing of edgesdk, because its text is also run as a program of its own (``python -c``), for the cold start:
the arguments are the runtime's package, the model file and an npz file with the inputs by tensor name.
"""

import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any


def bare_call(package: str, content: bytes, feed: dict[str, Any], threads: int = 1) -> Callable[[], Any]:
    """A function that runs one inference of the bare runtime.

    Args:
        package: ``onnxruntime``, ``ai_edge_litert`` or ``tflite_runtime``.
        content: The model.
        feed: Input arrays by tensor name, or by the names of the only signature.
        threads: Intra-operator threads.
    """
    if package == "onnxruntime":
        runtime = import_module("onnxruntime")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = runtime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda: session.run(names, feed)
    interpreter = import_module(f"{package}.interpreter").Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    indices = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    if not set(feed) <= set(indices):  # the names are those of the signature
        details = interpreter.get_signature_runner().get_input_details()
        indices = {name: detail["index"] for name, detail in details.items()}
    inputs = [(indices[name], array) for name, array in feed.items()]
    outputs = [detail["index"] for detail in interpreter.get_output_details()]

    def call() -> list[Any]:
        for index, array in inputs:
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return call


def main() -> None:
    """Print the time of the first result (monotonic, ns) and the resident memory after it (KiB)."""
    import numpy as np

    with open(sys.argv[2], "rb") as file:  # noqa: PTH123  pathlib would be the only import that the peer does not need
        content = file.read()
    bare_call(sys.argv[1], content, dict(np.load(sys.argv[3])))()
    done = time.monotonic_ns()
    with open("/proc/self/status") as status:  # noqa: PTH123  same
        resident = next((line.split()[1] for line in status if line.startswith("VmRSS")), "0")
    sys.stdout.write(f"{done} {resident}\n")


if __name__ == "__main__":
    main()
