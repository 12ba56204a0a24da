"""Factories for zoo models that come as code and a state dict: what `edgesdk convert` takes for PyTorch.

``edgesdk convert edgesdk_converters.zoo.factories:efficientnet_lite0 --state-dict FILE --spec FILE ...``
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from edgesdk_converters.zoo.fetch import code


def efficientnet_lite0() -> Any:
    """EfficientNet-Lite0 for ImageNet's 1000 classes, with random weights: its state dict comes with ``--state-dict``.

    The architecture is imported out of the pinned wheel `efficientnet-lite-pytorch`, not copied.

    Raises:
        ZooError: The wheel cannot be fetched.
    """
    folder = str(code("efficientnet-lite-pytorch"))
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
