"""Where samples come from: cameras, microphones, files, recordings; each kind is an entry point of `edgesdk.sources`."""

from edgesdk.sources.api import Source
from edgesdk.sources.base import Interruptible, SourceBase, make_source, source_class
from edgesdk.sources.recording import Recorder, record

__all__ = ["Interruptible", "Recorder", "Source", "SourceBase", "make_source", "record", "source_class"]
