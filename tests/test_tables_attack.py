"""Files that are damaged, hostile or not what they seem: each is told with its place, what was seen and what to do."""

import csv
import gzip
import io
import json
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.faulty_files import GOOD, assert_told, write_csv, write_json
from promptreach.errors import InputError
from promptreach.tables import read_task


def pristine(name: str) -> bytes:
    """A good file of each format, to be damaged."""
    stem, *compression = name.split(".")[1:]
    if stem == "parquet":
        pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        stream = io.BytesIO()
        parquet.write_table(pyarrow.table({"text": ["fine", "bad"], "label": ["pos", "neg"]}), stream)
        return stream.getvalue()
    if stem == "jsonl":
        content = "".join(json.dumps(record) + "\n" for record in GOOD).encode()
    else:
        mark = "," if stem == "csv" else "\t"
        content = f'text{mark}label\n"fi""n\ne"{mark}pos\nbäd{mark}neg\n'.encode()
    return {(): bytes, ("gz",): gzip.compress, ("xz",): lzma.compress}[tuple(compression)](content)


# Files that cannot be read ------------------------------------------------------------------------------------------


def test_a_missing_file_with_its_neighbour(tmp_path: Path) -> None:
    write_json(tmp_path / "reviews.jsonl", GOOD)
    assert_told(tmp_path / "review.jsonl", "review.jsonl", "No such file", f"Did you mean {tmp_path / 'reviews.jsonl'}")
    assert_told(tmp_path / "none" / "review.csv", "No such file")
    assert_told("re\0views.csv", "null")


def test_a_folder_and_a_forbidden_file(tmp_path: Path) -> None:
    assert_told(tmp_path, "a folder", "Name a file that ends in .jsonl")
    path = write_json(tmp_path / "secret.jsonl", GOOD)
    path.chmod(0)
    if os.geteuid():
        assert_told(path, "secret.jsonl", "Permission denied")
        return
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)
    os.seteuid(65534)  # root reads everything; become nobody for a moment
    try:
        assert_told(path, "secret.jsonl", "Permission denied")
    finally:
        os.seteuid(0)


def test_a_folder_says_what_to_name_instead(tmp_path: Path) -> None:
    write_json(tmp_path / "one.jsonl", GOOD)
    error = assert_told(tmp_path, "a folder", f"Name one file, such as {tmp_path / 'one.jsonl'}")
    assert "--test" not in str(error)
    write_json(tmp_path / "two.jsonl", GOOD)
    assert_told(tmp_path, "one.jsonl, and those of other parts with --validation and --test")
    (tmp_path / "dataset_info.json").write_text("{}")
    assert_told(tmp_path, f"datasets.load_from_disk({str(tmp_path)!r})")


def test_addresses_and_patterns_are_no_paths(tmp_path: Path) -> None:
    assert_told("https://example.org/a.csv", "download the file first")
    assert_told(tmp_path / "*.csv", "Patterns are not read")


def test_an_unknown_format(tmp_path: Path) -> None:
    for name in ("reviews.rst", "reviews", "reviews.parquet.gz"):
        (tmp_path / name).write_bytes(b"x")
        assert_told(tmp_path / name, name, "ends in", ".jsonl", ".parquet", "Convert")
    (tmp_path / "reviews.pkl").write_bytes(b"x")
    assert_told(tmp_path / "reviews.pkl", "Nothing is unpickled")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    content = b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith("gz") else b"")
    assert_told(tmp_path / name, name, "no rows and no columns", "at least 2 rows")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert_told(tmp_path / name, name, "no rows and no columns")


def test_a_header_only_and_a_single_row(tmp_path: Path) -> None:
    assert_told(write_csv(tmp_path / "a.csv", [("text", "label")]), "a.csv: no rows;", "at least 2 rows")
    assert_told(write_csv(tmp_path / "a.csv", [("text", "label"), ("a", "b")]), "a.csv: 1 row;", "at least 2 rows")
    assert_told([], "no rows and no columns")


def test_a_ragged_row_names_row_and_line(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("text", "label"), ("two\nlines", "x"), ("a", "b", "c"), ("d",)])
    error = assert_told(path, "a.csv, row 2 (line 4)", "3 cells: ['a', 'b', 'c']", "2, as in the header", "quotes")
    assert len(error.faults) == 2
    assert "row 3 (line 5)" in str(error.faults[1])


def test_broken_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"He said "no"",x\nb,y\n"never closed,z\n')
    error = assert_told(path, "row 1 (line 2)", "broken quoting", "double the quotes")
    assert "row 3 (line 4)" in str(error.faults[1])
    path.write_text('text,"label\na,b\n')
    assert_told(path, "a.csv, header", "broken quoting")


def test_broken_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    bad = ['{"text": "a", "label": }', "[1, 2]", '"text"', "null", "1" * 5000, "[" * 100_000, "{'text': 'a'}"]
    path.write_text("\n".join([json.dumps(GOOD[0]), "", *bad, json.dumps(GOOD[1])]))
    error = assert_told(path, "a.jsonl, row 2 (line 3)", "Expecting value at character 24", "one JSON object", "jq")
    assert len(error.faults) == len(bad)
    for row, part in ((3, "[1, 2] (list)"), (4, "'text' (str)"), (5, "None (NoneType)"), (8, "broken JSON")):
        assert_told(path, f"row {row} (line {row + 1})", part)


def test_an_object_over_several_lines_says_how_to_make_rows_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": GOOD}, indent=1))
    error = assert_told(tmp_path / "a.json", "row 1 (line 1)", "several lines", "jq -c '.data[]'")
    assert len(error.faults) == 1


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress])
def test_an_array_is_read_row_by_row(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    rows = [{"text": f"{i} ä" * 300, "label": i % 2} for i in range(400)]
    path = tmp_path / {bytes: "a.json", gzip.compress: "a.json.gz", lzma.compress: "a.json.xz"}[compress]
    for text in (json.dumps(rows), json.dumps(rows, indent=2, ensure_ascii=False)):
        path.write_bytes(compress(b"\xef\xbb\xbf \n" + text.encode()))
        assert read_task(path).inputs == tuple(row["text"] for row in rows)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("[", ("row 1", "broken JSON")),
        ("[]", ("no rows and no columns",)),
        ('[{"text": "a", "label": 1}', ("row 1", "an end without ','")),
        ('[{"text": "a", "label": 1} {"text": "b"}]', ("row 1", "'{' where ',' should stand")),
        ('[{"text": "a", "label": 1}, 3]', ("row 2", "3 (int)", "an object")),
        ('[{"text": "a", "label": 1}, {"text": }]', ("row 2", "broken JSON", "Export")),
        ('[{"text": "a", "label": 1}] x', ("row 1", "behind the end")),
        ('[{"text": "' + "x" * 1_200_000, ("row 1", "1,000,000", "Shorten")),
        ("[" * 100_000, ("row 1", "cannot be read")),
    ],
)
def test_arrays_that_are_broken(content: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    assert_told(tmp_path / "a.json", "a.json", *parts)


def test_an_array_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('[{"text": "café", "label": 1}]'.encode("latin-1"))
    assert_told(tmp_path / "a.json", "byte 0xe9", "is not UTF-8", "iconv")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_bytes_that_are_not_utf8(tmp_path: Path, name: str) -> None:
    rows = ['{"text": "%s", "label": "%s"}\n' if name == "a.jsonl" else "%s,%s\n"] * 4
    cells = [("fine", "pos"), ("caf\xe9", "neg"), ("also fine", "pos"), ("na\xefve", "neg")]
    head = b"" if name == "a.jsonl" else b"text,label\n"
    content = head + "".join(row % cell for row, cell in zip(rows, cells, strict=True)).encode("latin-1")
    (tmp_path / name).write_bytes(content)
    line = 2 if name == "a.jsonl" else 3
    where = f"{name}, row 2 (line {line})"
    error = assert_told(tmp_path / name, where, f"byte 0xe9 at offset {content.index(0xE9)} is not UTF-8", "latin-1")
    assert len(error.faults) == 2
    assert f"byte 0xef at offset {content.index(0xEF)}" in str(error.faults[1])


def test_bytes_that_are_not_utf8_in_a_header_after_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbft\xe9xt,label\na,b\n")
    assert_told(tmp_path / "a.csv", "a.csv, header", "byte 0xe9 at offset 4")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_utf16_is_one_fault(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text,label\na,b\nc,d\n", encoding="utf-16")
    error = assert_told(tmp_path / name, name, "UTF-16", "iconv")
    assert len(error.faults) == 1


def test_nul_bytes_and_lone_surrogates(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\na\0b,x\nc,y\n")
    assert_told(tmp_path / "a.csv", "a.csv, row 1, column 'text' (line 2)", r"'\x00' at character 2", "Remove")
    (tmp_path / "a.jsonl").write_text('{"text": "ab\\ud800", "label": 1}\n')
    assert_told(tmp_path / "a.jsonl", "row 1, column 'text'", r"'\ud800' at character 3", "Remove")


def test_damaged_compression(tmp_path: Path) -> None:
    whole = gzip.compress(b"text,label\n" + b"a long enough text,label\n" * 1000)
    (tmp_path / "a.csv.gz").write_bytes(whole[:-20])
    assert_told(tmp_path / "a.csv.gz", "a.csv.gz, row", "cannot be read on from here", "compress it again")
    (tmp_path / "b.csv.gz").write_bytes(b"text,label\na,b\n")
    assert_told(tmp_path / "b.csv.gz", "b.csv.gz, header", "Not a gzipped file")
    for suffix in ("bz2", "xz"):
        (tmp_path / f"c.jsonl.{suffix}").write_bytes(b"text,label\na,b\n")
        assert_told(tmp_path / f"c.jsonl.{suffix}", "row 1", "cannot be read on from here")


def test_damaged_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 no")
    assert_told(path, "a.parquet", "not readable as Parquet", "Export it again")
    parquet.write_table(pyarrow.table({"text": [f"text {i}" for i in range(99)], "label": ["a"] * 99}), path)
    content = bytearray(path.read_bytes())
    content[4:200] = b"\xff" * 196  # the pages; the footer, with the columns, is whole
    path.write_bytes(content)
    assert_told(path, "a.parquet", "not readable as Parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert_told(tmp_path / "a.parquet", "a.parquet", "pyarrow", 'pip install "pyarrow>=15"')


damage = st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=3) | st.sampled_from([b'"', b",", b"\n", b"\0"])))


@given(st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.csv.gz", "a.jsonl.xz", "a.parquet"]), damage)
def test_any_damage_is_told_as_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: list[tuple[int, bytes]]
) -> None:
    path = tmp_path_factory.mktemp("damage") / name
    content = bytearray(pristine(name))
    for position, new in damage:
        at = position % (len(content) + 1)
        content[at : at + 1] = new
    path.write_bytes(content)
    try:
        faults = ()
        assert len(read_task(path)) >= 2
    except InputError as error:
        faults = error.faults
    assert all(name in fault.where for fault in faults)


# Rows without end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_ten_megabyte_row_is_one_fault_and_reading_goes_on(tmp_path: Path, name: str) -> None:
    row = '{{"text": "{}", "label": "{}"}}\n' if name == "a.jsonl" else "{},{}\n"
    head = "" if name == "a.jsonl" else "text,label\n"
    content = head + row.format("ok", "x") + row.format("y" * 10_000_000, "x") + row.format("", "x")
    (tmp_path / name).write_text(content)
    error = assert_told(
        tmp_path / name, f"{name}, row 2 (line", "at least 10,000,0", "no more than 1,000,000", "Shorten"
    )
    assert len(error.faults) == 2
    assert "row 3, column 'text'" in str(error.faults[1])


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"open,x\n' + "an ordinary line of text,y\n" * 50_000)
    error = assert_told(path, "a.csv, row 1 (line 2)", "at least 1,000,0", "a quote that is never closed")
    assert len(error.faults) == 1


def test_cells_longer_than_the_csv_module_allows_leave_its_limit_alone(tmp_path: Path) -> None:
    before = csv.field_size_limit(1000)
    try:
        path = write_csv(tmp_path / "a.csv", [("text", "label"), ("a" * 900_000, "x"), ("b", "y")])
        assert len(read_task(path).inputs[0]) == 900_000
        assert csv.field_size_limit() == 1000
        path.write_text('text,label\n"a"b,x\n')
        assert_told(path, "broken quoting")
        assert csv.field_size_limit() == 1000
    finally:
        csv.field_size_limit(before)


def test_two_threads_leave_the_csv_limit_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("text", "label")] + [(f"t{i}", i % 2) for i in range(3000)])
    before = csv.field_size_limit()
    threads = [threading.Thread(target=read_task, args=(path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(("name", "content"), [("a.csv", b"text,label\rx,1\ry,2\r"), ("a.jsonl", b"{}\r{}\r")])
def test_lines_that_end_in_cr_are_told_with_what_converts_them(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert_told(tmp_path / name, "CR", r"tr '\r' '\n'")


def test_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.jsonl"):
        assert_told(tmp_path / name, name, "never end")


@pytest.mark.parametrize("kind", ["gz", "parquet", "memory"])
def test_what_unpacks_beyond_all_bounds_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptreach.rows._lines.MAX_FILE_BYTES", 3_000_000)
    monkeypatch.setattr("promptreach.tables.MAX_LETTERS", 1_000_000)
    if kind == "gz":
        source: object = tmp_path / "a.csv.gz"
        with gzip.open(tmp_path / "a.csv.gz", "wb") as stream:
            stream.write(b"text,label\n" + b"0" * 9_000_000)
    elif kind == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        long = arrow.DictionaryArray.from_arrays(arrow.array([0] * 5000, arrow.int32()), arrow.array(["a" * 2000]))
        parquet.write_table(arrow.table({"text": long, "label": ["x"] * 5000}), tmp_path / "a.parquet")
        source = tmp_path / "a.parquet"
        assert (tmp_path / "a.parquet").stat().st_size < 10_000
    else:
        source = [{"text": "a" * 2000, "label": "x"}] * 5000
    assert_told(source, "sample")
