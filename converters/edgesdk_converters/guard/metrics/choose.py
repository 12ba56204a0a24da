"""Which figure belongs to which task."""

from __future__ import annotations

from collections.abc import Callable

from edgesdk.bundle.manifest import Contract, StateInput
from edgesdk_converters.guard.metrics.api import Metric
from edgesdk_converters.guard.metrics.boxes import BoxesMetric
from edgesdk_converters.guard.metrics.classes import AccuracyMetric, class_vector
from edgesdk_converters.guard.metrics.ranking import RankingMetric, embedding
from edgesdk_converters.guard.metrics.text import TextMetric

_BY_TASK: dict[str, Callable[[Contract], Metric]] = {
    "object-detection": BoxesMetric,
    "face-detection": BoxesMetric,
    "text-detection": BoxesMetric,
    "text-recognition": TextMetric,
}


def metric_for(contract: Contract) -> Metric | None:
    """An empty metric for the contract's task, or None where its branches say all there is to say."""
    made = _BY_TASK.get(contract.task)
    if made is not None:
        return made(contract)
    if class_vector(contract) is not None:
        return AccuracyMetric(contract)
    stateful = any(isinstance(spec.source, StateInput) for spec in contract.inputs)
    if embedding(contract) is not None and not stateful:
        return RankingMetric(contract)
    return None
