"""Contract 2: the bundle (`<name>.edge`): a model's variants, what they mean, and proof of what was measured."""

from edgesdk.bundle.bundle import Bundle
from edgesdk.bundle.manifest import Manifest, Measurements
from edgesdk.bundle.write import write_bundle

__all__ = ["Bundle", "Manifest", "Measurements", "write_bundle"]
