"""Class names by id."""

from __future__ import annotations

from edgesdk.bundle.manifest import Contract
from edgesdk.errors import TaskError


def check_labels(contract: Contract, classes: int, *, output: str) -> None:
    """Refuse a list of labels that does not name every class of the model.

    Args:
        contract: Its ``labels`` may be empty: then ids stand in for names.
        classes: Number of classes that the output distinguishes.
        output: Name and shape of the output, for the message.

    Raises:
        TaskError: Names both numbers.
    """
    if contract.labels and len(contract.labels) != classes:
        difference = "shorter" if len(contract.labels) < classes else "longer"
        raise TaskError(
            f"task {contract.task!r}: the list of labels is {difference} than the model's classes: {len(contract.labels)} "
            f"labels, {classes} classes (output {output}). Give one label per class, in the order of the class ids."
        )


def names_of(contract: Contract, class_ids: list[int]) -> tuple[str, ...]:
    """The label of each id; ``class <id>`` where the bundle has none."""
    labels = contract.labels
    return tuple(labels[class_id] if labels else f"class {class_id}" for class_id in class_ids)
