"""The forms of a model that may go into its bundle, per format."""

from edgesdk_converters.variants.api import Family, Form, Runner

__all__ = ["Family", "Form", "Runner"]
