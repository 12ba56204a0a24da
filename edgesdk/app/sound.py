"""Sound at the rate that the models of a stream take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.app.config import source_kind
from edgesdk.sources import Source, make_source

if TYPE_CHECKING:
    from edgesdk.model import Model


def at_models_rate(source: Source, options: Any, models: Iterable[Model]) -> Source:
    """``source``, or one like it that resamples, where app.yaml leaves the rate of a sound file open.

    A recording of another rate would otherwise be refused block by block; the source says that it resamples.

    Args:
        source: Closed.
        options: Its entry in app.yaml.
        models: Those that hear it. Where they take different rates the source is left alone: no rate suits all.
    """
    rates = {model.sample_rate_hz for model in models} - {None}
    is_open = getattr(source, "media", "any") == "audio" and getattr(options, "rate_hz", 0.0) is None
    if not is_open or len(rates) != 1:
        return source
    return make_source(source_kind(options), msgspec.structs.replace(options, rate_hz=float(rates.pop() or 0)))
