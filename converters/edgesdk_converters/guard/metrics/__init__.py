"""What a task itself cares about: boxes found again, characters read alike, labels hit, neighbours ranked alike."""

from edgesdk_converters.guard.metrics.api import Metric, Shortfall
from edgesdk_converters.guard.metrics.boxes import BoxesMetric, f1, match
from edgesdk_converters.guard.metrics.choose import metric_for
from edgesdk_converters.guard.metrics.classes import AccuracyMetric
from edgesdk_converters.guard.metrics.ranking import RankingMetric
from edgesdk_converters.guard.metrics.text import TextMetric, edit_distance

__all__ = [
    "AccuracyMetric",
    "BoxesMetric",
    "Metric",
    "RankingMetric",
    "Shortfall",
    "TextMetric",
    "edit_distance",
    "f1",
    "match",
    "metric_for",
]
