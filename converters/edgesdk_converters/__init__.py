"""Converts models for edge boards and proves that they still work."""

__version__ = "0.1.0"
__all__ = ["__version__"]
