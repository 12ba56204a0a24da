"""`load` opens a bundle (or several, as a cascade) for this board; the `Model` it gives turns samples into results."""

from edgesdk.model.loading import load
from edgesdk.model.model import Inference, LatencySplit, Model, Part

__all__ = ["Inference", "LatencySplit", "Model", "Part", "load"]
