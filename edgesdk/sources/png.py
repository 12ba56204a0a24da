"""What PNG files need before OpenCV reads them."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def without_colour_profile(content: bytes) -> bytes:
    """The same PNG file without its embedded colour profile (chunk iCCP, which any reader may ignore).

    OpenCV does not use the profile, but libpng prints a warning to stderr for each one that it finds fault with, and many
    scanners and editors write such.

    Args:
        content: Any bytes.

    Returns:
        ``content`` itself where it is no PNG file, has no profile, or is damaged before one: the decoder then says so.

    Source: PNG specification (W3C, third edition), 5.3 chunk layout and 11.3.2.3 iCCP.
    """
    if not content.startswith(SIGNATURE):
        return content
    position = len(SIGNATURE)
    while position + 12 <= len(content):
        end = position + 12 + int.from_bytes(content[position : position + 4], "big")
        name = content[position + 4 : position + 8]
        if name == b"IDAT" or end > len(content):
            break  # the profile has its place before the pixels
        if name == b"iCCP":
            return content[:position] + content[end:]
        position = end
    return content
