"""The golden files are compared by shapes, so these must tell documents apart."""

from __future__ import annotations

from tests.shapes import merge, shape_of


def test_fields_and_types_make_the_shape_and_values_do_not() -> None:
    assert shape_of({"a": 1, "b": "x"}) == shape_of({"a": 2.5, "b": ""}) == {"a": "number", "b": "string"}
    assert shape_of({"a": 1}) != shape_of({"a": "1"}) and shape_of({"a": 1}) != shape_of({"b": 1})


def test_names_that_are_keys_are_no_fields() -> None:
    assert shape_of({"problems": {"x.conf": "why"}}) == {"problems": {"*": "string"}}
    assert merge(shape_of({"problems": {}}), shape_of({"problems": {"x": "y"}})) == {"problems": {"*": "string"}}


def test_what_is_sometimes_missing_or_null_is_said() -> None:
    merged = merge(shape_of({"a": 1, "b": None}), shape_of({"b": "x"}))
    assert merged == {"a?": "number", "b": "null|string"}
    assert merge(merged, shape_of({"a": 1, "b": "x"})) == merged
    assert shape_of([{"a": 1}, {"a": None}]) == [{"a": "null|number"}]
    assert merge(shape_of({"m": None}), shape_of({"m": {"a": 1}})) == {"m": {"or": [{"a": "number"}, "null"]}}
    assert merge(merge(shape_of({"m": None}), shape_of({"m": {"a": 1}})), shape_of({"m": {"a": 2}})) == {
        "m": {"or": [{"a": "number"}, "null"]}
    }
