from __future__ import annotations

import json
import math
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConversionError
from edgesdk_converters.report import read_record, record_schema, write_report
from edgesdk_converters.report.record import NodeCost, Record
from edgesdk_converters.report.write import parse_record, to_json

DOCS = Path(__file__).parents[3] / "docs"


def test_write_report__json_reads_back_the_same(record: Record, hostile: Record, tmp_path: Path) -> None:
    for one in (record, hostile):
        write_report(one, tmp_path / "r.json")
        assert read_record(tmp_path / "r.json") == one
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


def test_write_report__same_record_same_bytes(record: Record, tmp_path: Path) -> None:
    for name in ("a.html", "b.html", "a.json", "b.json"):
        write_report(record, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_write_report__json_fits_its_exported_schema(record: Record) -> None:
    exported = json.loads((DOCS / "report.schema.json").read_text())
    assert exported == record_schema(), "run: python -m edgesdk_converters.report > docs/report.schema.json"
    validator = jsonschema.Draft202012Validator(exported)
    said = json.loads(to_json(record))
    validator.validate(said)
    assert not validator.is_valid({**said, "schema": "edgesdk.report/2"})
    assert not validator.is_valid({key: value for key, value in said.items() if key != "schema"})


def test_write_report__infinities_do_not_stop_it(record: Record) -> None:
    cost = NodeCost(node="a", op_type="Conv", weight_bytes=0, error={"b": math.inf, "c": math.nan}, scheme="float")
    back = parse_record(to_json(msgspec.structs.replace(record, sensitivity=(cost,))))
    assert back.sensitivity[0].error == {"b": 1e300, "c": 1e300}


def test_write_report__bad_places(record: Record, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"a report is \.html or \.json\. Say --output r\.html"):
        write_report(record, tmp_path / "r.pdf")
    with pytest.raises(ConversionError, match=r"there is no folder .*Create it: mkdir -p"):
        write_report(record, tmp_path / "none" / "r.html")


def test_parse_record__the_cell_of_a_sweep(record: Record) -> None:
    cell = {"schema": "edgesdk.sweep-cell/1", "status": "ok", "record": json.loads(to_json(record))}
    assert parse_record(json.dumps(cell).encode()) == record
    with pytest.raises(ConversionError, match="This is no report"):
        parse_record(b'{"schema": "edgesdk.sweep-cell/1", "status": "failed"}')


def test_read_record__what_it_is_not(record: Record, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"there is no such file\. `edgesdk convert \.\.\. --report FILE\.json`"):
        read_record(tmp_path / "none.json")
    with pytest.raises(ConversionError, match=r"is no JSON .*Write it again: edgesdk convert"):
        parse_record(b"{")
    with pytest.raises(ConversionError, match=r"schema is None, expected 'edgesdk\.report/1'.*or a bundle"):
        parse_record(b"[]")
    newer = to_json(record).replace(b"edgesdk.report/1", b"edgesdk.report/9")
    with pytest.raises(ConversionError, match="written by another version: install that one, or convert again"):
        parse_record(newer)
    with pytest.raises(ConversionError, match=r"is no report as edgesdk writes it: .*missing.*Convert again"):
        parse_record(b'{"schema": "edgesdk.report/1"}')


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_parse_record__any_bytes__only_our_error(content: bytes) -> None:
    with pytest.raises(ConversionError):
        parse_record(content)


@given(st.data())
def test_parse_record__damaged__only_our_error(data: st.DataObject) -> None:
    content = bytearray(
        b'{"schema": "edgesdk.report/1", "name": "a", "bundle": "b", "device": "c", "host": "d", "trials": [{}]}'
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with pytest.raises(ConversionError):
        parse_record(bytes(content))
