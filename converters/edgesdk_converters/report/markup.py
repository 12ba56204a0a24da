"""Builds HTML and SVG in which nothing from a model, a file name or a label can be more than text."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Iterator

_VOID = frozenset({"br", "col", "hr", "img", "link", "meta"})
_ALSO_KEPT = "\n\t\N{NO-BREAK SPACE}"


class Html(str):
    """Markup that is finished. Only :func:`el` and :func:`join` make it; every other string is escaped."""

    __slots__ = ()


Child = "Html | str | int | float | None | Iterable[Child]"


def clean(text: object) -> str:
    """What a reader may see of a string that somebody else wrote.

    Control characters would break the document, and those that turn the direction of writing could make one name look like another.
    """
    return "".join(letter if letter.isprintable() or letter in _ALSO_KEPT else "\ufffd" for letter in str(text))


def escape(text: object) -> Html:
    """A string as text, also inside attributes."""
    return Html(html.escape(clean(text), quote=True))


def el(tag: str, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        tag: Its name, ours.
        children: Markup as it is; other strings escaped; None left out; lists and generators one after the other.
        attributes: ``class_`` and ``for_`` lose their underscore, others become hyphens; None and False are left out, True is
            written without a value.
    """
    head = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        key = name.rstrip("_").replace("_", "-")
        head.append(key if value is True else f'{key}="{escape(value)}"')
    opening = f"<{' '.join(head)}>"
    if tag in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(children)}</{tag}>")


def join(children: object) -> Html:
    """Children one after the other."""
    return Html("".join(_flat(children)))


def _flat(child: object) -> Iterator[str]:
    if child is None:
        return
    if isinstance(child, Html):
        yield child
    elif isinstance(child, Iterable) and not isinstance(child, str | bytes):
        for one in child:
            yield from _flat(one)
    else:
        yield escape(child)


NBSP = "\N{NO-BREAK SPACE}"
"""Between a number and its unit, which no line end may part."""


# -- numbers ---------------------------------------------------------------------------------------------------------


def sane(value: float) -> bool:
    """Whether a number can be written out and drawn: what is not finite stands in a record as 1e300."""
    return math.isfinite(value) and abs(value) < 1e15


def size(count: float) -> str:
    """Bytes in decimal units, as file managers and data sheets have them: ``52.4 kB``."""
    if not sane(count):
        return number(count)
    if count < 1000:
        return f"{count:.0f}{NBSP}B"
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < scale * 999.5 or unit == "GB":
            return f"{digits(count / scale)}{NBSP}{unit}"
    raise AssertionError


def milliseconds(value: float) -> str:
    """``0.42 ms``, ``31.5 ms``, ``1.25 s``."""
    return f"{digits(value / 1000)}{NBSP}s" if value >= 1000 else f"{digits(value)}{NBSP}ms"


def times(value: float) -> str:
    """A ratio: ``0.47x``."""
    return f"{value:.2f}\N{MULTIPLICATION SIGN}" if sane(value) else number(value)


def percent(share: float) -> str:
    """``99.2 %``; what is nearly all never reads as all."""
    if not sane(share):
        return number(share)
    text = f"{share * 100:.1f}"
    if text == "100.0" and share < 1:
        text = f"{math.floor(share * 1e4) / 100:.2f}"
    return f"{text.removesuffix('.0')}{NBSP}%"


def decibel(value: float) -> str:
    """``31.5 dB``; at the meter's cap the two are equal."""
    if math.isnan(value):
        return number(value)
    if value >= 120:
        return "equal"
    if value <= -120:
        return "lost"
    return f"{minus(f'{value:.1f}')}{NBSP}dB"


def number(value: float) -> str:
    """A value of unknown size with three digits: ``0.0123``, ``4.2e-7``."""
    if not math.isfinite(value) or abs(value) >= 1e30:
        return "not finite"
    return minus(f"{value:.3g}")


def digits(value: float) -> str:
    """Three digits that count, no exponent, and thousands told apart."""
    if not sane(value):
        return number(value)
    if value == 0:
        return "0"
    value = float(f"{value:.3g}")
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return minus(f"{value:,.{min(places, 6)}f}")


def minus(text: str) -> str:
    """With a real minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def plural(count: int, noun: str, many: str = "") -> str:
    """``1 node``, ``3 nodes``."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"
