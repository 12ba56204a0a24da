"""The model specs of the zoo agree with its catalogue and with the tasks that they name."""

from __future__ import annotations

import pytest

from edgesdk import registry
from edgesdk.bundle.manifest import Contract
from edgesdk.registry import load_plugin
from edgesdk.tasks.options import read_options
from edgesdk_converters.spec import read_spec
from edgesdk_converters.zoo.catalog import HERE, catalog, spec_path

SPECS = sorted(path.stem for path in (HERE / "specs").glob("*.yaml"))


def test_specs__are_there_and_each_belongs_to_a_model() -> None:
    assert SPECS
    assert set(SPECS) <= set(catalog().models)


@pytest.mark.parametrize("name", SPECS)
def test_spec__reads_and_says_what_the_catalogue_says(name: str) -> None:
    path = spec_path(name)
    assert path is not None
    spec = read_spec(path)
    entry = catalog().models[name]
    assert spec.task == entry.task
    assert spec.licence == entry.licence
    assert spec.licence_source is not None
    wheel = catalog().wheels[entry.wheel]
    assert f"wheel {entry.wheel} {wheel.version}" in spec.licence_source
    assert spec.inputs, "a spec says at least what goes in"


@pytest.mark.parametrize("name", SPECS)
def test_spec__options_are_those_of_the_task(name: str) -> None:
    path = spec_path(name)
    assert path is not None
    spec = read_spec(path)
    assert spec.task is not None
    task = load_plugin(registry.TASKS, spec.task)
    read_options(Contract(task=spec.task, inputs=(), outputs=(), options=spec.options), task.Options)


@pytest.mark.parametrize("name", sorted(catalog().models))
def test_catalog__every_model_names_a_task_that_is_there(name: str) -> None:
    task = catalog().models[name].task
    assert task in registry.plugins(registry.TASKS)
    if spec_path(name) is None:
        assert task == "raw", "without a spec nobody says what the outputs mean"
