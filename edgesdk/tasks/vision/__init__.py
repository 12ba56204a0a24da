"""Tasks on pictures, and the pre-processing that the board and the converters share."""

from __future__ import annotations

__all__: list[str] = []
