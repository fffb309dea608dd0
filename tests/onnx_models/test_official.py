"""ONNX's own tests of nodes and small models, run by the backend as ONNX's runner does."""

import official
import pytest
from onnx.backend.test.runner import Runner

from fastnn.onnx import backend
from fastnn.onnx.operators import OPERATORS

RUN = sorted(name for name in official.CASES
             if not official.USES[name] & official.UNKNOWN and official.why_skipped(name) is None)
LEFT = {name for name in official.CASES if name not in RUN and not official.USES[name] & official.UNKNOWN}


@pytest.mark.parametrize("name", RUN)
def test_official(name):
    case = official.CASES[name]
    runner = backend.prepare(case.model)
    for inputs, outputs in case.data_sets:
        found = runner.run(official.as_arrays(inputs))
        Runner.assert_similar_outputs(official.as_arrays(outputs), found, case.rtol, case.atol)


def test_the_list_of_unknown_operators_is_true():
    assert not official.UNKNOWN & OPERATORS.keys()
    used = set().union(*official.USES.values())
    assert official.UNKNOWN - used == set()


def test_every_operator_is_tested():
    tested = set().union(*(official.USES[name] for name in RUN))
    # ONNX has no test of these: theirs are in test_operators.py.
    assert OPERATORS.keys() - tested == {"GlobalLpPool"}


@pytest.mark.parametrize("name", sorted(LEFT))
def test_what_is_skipped_does_fail(name):
    """A reason that is none any more is found here."""
    case = official.CASES[name]
    with pytest.raises((ValueError, AssertionError)):  # noqa: PT012 - whichever of the two steps refuses
        runner = backend.prepare(case.model)
        for inputs, outputs in case.data_sets:
            found = runner.run(official.as_arrays(inputs))
            Runner.assert_similar_outputs(official.as_arrays(outputs), found, case.rtol, case.atol)
