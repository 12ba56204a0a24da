"""A source model, prepared, and the forms of it that may go into its bundle."""

from edgesdk_converters.variants.api import Attempt, Family, Form, Runner, Wish

__all__ = ["Attempt", "Family", "Form", "Runner", "Wish"]
