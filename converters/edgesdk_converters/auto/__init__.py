"""Finds what to quantize how: what each node costs, and the plan that keeps the fewest nodes in float."""

from edgesdk_converters.auto.api import Proposal, Quantizes
from edgesdk_converters.auto.plans import model_sha256, read_plan, write_plan
from edgesdk_converters.auto.proposals import proposals
from edgesdk_converters.auto.sensitivity import sensitivity

__all__ = [
    "Proposal",
    "Quantizes",
    "model_sha256",
    "proposals",
    "read_plan",
    "sensitivity",
    "write_plan",
]
