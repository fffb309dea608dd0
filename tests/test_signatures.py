"""`fastnn.reference` is the specification of `fastnn.functional`: the same names, the same signatures."""

import inspect

import pytest

from fastnn import functional, reference


def public_functions(module):
    return {name: value for name, value in inspect.getmembers(module)
            if inspect.isfunction(inspect.unwrap(value)) and not name.startswith("_")}


FUNCTIONAL, REFERENCE = public_functions(functional), public_functions(reference)


def parameters(function):
    """Names, kinds and defaults, in order; annotations are documentation."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_all():
    assert set(functional.__all__) == FUNCTIONAL.keys()


def test_same_names():
    assert FUNCTIONAL.keys() == REFERENCE.keys()


@pytest.mark.parametrize("name", sorted(FUNCTIONAL))
def test_same_signature(name):
    assert parameters(FUNCTIONAL[name]) == parameters(REFERENCE[name])


@pytest.mark.parametrize("name", sorted(FUNCTIONAL))
def test_documented(name):
    assert inspect.getdoc(FUNCTIONAL[name])
    assert inspect.getdoc(REFERENCE[name])
