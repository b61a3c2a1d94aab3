"""What has moved is still found where it was, with a word on where it is."""

import importlib

import pytest

import dastc.adapt
import dastc.data


@pytest.mark.parametrize(
    "package", ["adapt", "aggregation", "data", "functional", "fusion", "metrics", "models", "viz"]
)
def test_every_moved_name_is_found_and_told(package):
    module = importlib.import_module(f"dastc.{package}")
    names = module.__getattr__.__closure__[1].cell_contents
    assert names
    for name, home in names.items():
        assert name not in module.__all__
        with pytest.warns(DeprecationWarning, match=rf"dastc\.{package}\.{name} is now {home}\.{name}\."):
            found = module.__getattr__(name)
        assert found is getattr(importlib.import_module(home), name)


def test_an_unknown_name_is_unknown():
    with pytest.raises(AttributeError, match=r"module 'dastc\.data' has no attribute 'Nothing'"):
        _ = dastc.data.Nothing


def test_a_name_can_still_be_imported_from_where_it_was():
    with pytest.warns(DeprecationWarning, match=r"dastc\.data\.RandomCrop is now dastc\.augment\.RandomCrop"):
        from dastc.data import RandomCrop
    assert RandomCrop.__module__ == "dastc.augment.random_transforms"
