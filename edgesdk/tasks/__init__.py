"""What a model's outputs mean: tasks turn samples into typed results by driving a session."""

from __future__ import annotations

from edgesdk.bundle.manifest import Contract
from edgesdk.registry import TASKS, load_plugin
from edgesdk.tasks.api import Cascade, Result, Run, Task

__all__ = ["Cascade", "Result", "Run", "Task", "make_task"]


def make_task(contract: Contract) -> Task:
    """The task that ``contract.task`` names, constructed with the contract.

    Raises:
        PluginError: No task has this name (with the nearest one), or its module does not import.
        TaskError: The contract's shapes, labels or options do not fit the task.
        MissingExtraError: The task needs an optional dependency; the text has the pip line.
    """
    task: Task = load_plugin(TASKS, contract.task)(contract)
    return task
