"""Converts models for edge boards, and proves that they still work."""
