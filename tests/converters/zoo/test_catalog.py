"""The zoo's catalogue."""

import pytest

from edgesdk.errors import ZooError
from edgesdk_converters.zoo.catalog import catalog, spec_path


def test_catalog__every_entry_names_a_pinned_wheel() -> None:
    zoo = catalog()
    for name, entry in {**zoo.models, **zoo.media}.items():
        assert entry.wheel in zoo.wheels, name
        assert len(entry.sha256) == len(zoo.wheels[entry.wheel].sha256) == 64, name


def test_catalog__names_of_models_and_media_do_not_meet() -> None:
    assert not set(catalog().models) & set(catalog().media)


def test_catalog_model__misspelt_name_names_the_nearest() -> None:
    with pytest.raises(ZooError, match=r"no model 'blazeface-shrt'. Did you mean 'blazeface-short'"):
        catalog().model("blazeface-shrt")


def test_spec_path__unknown_model_has_none() -> None:
    assert spec_path("nothing") is None
