"""Import of optional dependencies, with the pip line when one is missing."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from edgesdk.errors import MissingExtraError


@cache
def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import ``module``, which the extra ``extra`` of edgesdk installs.

    Args:
        module: For example ``cv2``.
        extra: For example ``vision``.
        purpose: What needs it, for the message: ``reading pictures``.

    Raises:
        MissingExtraError: It is not installed or does not load; the text has the pip line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs {module}, which does not import here ({error}). Install it: pip install 'edgesdk[{extra}]'"
        ) from error
