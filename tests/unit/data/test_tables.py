"""Tables from CSV and Parquet files: inputs, labels, order of columns, and what is refused with its place."""

import csv
import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitcert.data import Column, PriorSplit, Role, Sample, Schema, load_sample, peek, schema_like, table
from bitcert.data import csv_file as reader
from bitcert.errors import InputError

CHURN = "state,minutes,plan,churn\nOH,12.5,yes,0\nKS,NA,,1\nOH,3,no,1\n"


def bucket(text):
    return hashlib.sha256(text.encode()).digest()[0]


@pytest.fixture
def write(tmp_path):
    def file(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


def read(path, label="churn", schema=None, role=Role.TRAIN, num_classes=None):
    return load_sample(path, role, label=label, schema=schema, num_classes=num_classes)


def refuse(path, match, **options):
    with pytest.raises(InputError, match=match) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert path.name in str(caught.value)


def test_a_table_without_a_schema(write):
    sample = read(write(CHURN))
    assert sample.inputs.tolist() == [
        [bucket("OH"), 12.5, bucket("yes")],
        [bucket("KS"), -1, -1],
        [bucket("OH"), 3, bucket("no")],
    ]
    assert sample.inputs.dtype == np.float32
    assert sample.labels.tolist() == [0, 1, 1]
    assert (sample.num_classes, sample.classes_inferred, sample.name) == (2, True, "table.csv")
    assert sample.columns == ("state", "minutes", "plan")
    told = {"label": "churn", "classes": None, "schema": None}
    assert sample.table.describe() == {**told, "columns": ["state", "minutes", "plan"]}


def test_a_table_with_a_schema(write):
    schema = {
        "columns": [
            {"name": "plan", "missing": True},
            {"name": "state", "categories": ["KS", "TX"]},
            {"name": "gone", "use": False},
        ],
        "label": "churn",
        "classes": ["1", "0"],
    }
    sample = read(write(CHURN), None, schema)
    assert sample.columns == ("plan", "plan is missing", "state", "minutes")
    assert sample.inputs.tolist() == [[bucket("yes"), 0, 2, 12.5], [0, 1, 0, -1], [bucket("no"), 0, 2, 3]]
    assert (sample.labels.tolist(), sample.num_classes, sample.classes_inferred) == ([1, 0, 0], 2, False)
    assert sample.table.names == ("churn", "gone", "minutes", "plan", "state")
    assert sample.table.order == ("minutes",)


def test_names_and_the_way_of_reading_stay_with_the_data(write):
    sample = read(write(CHURN * 1 + "OH,1,no,0\n" * 20))
    rest = PriorSplit.of(sample, 0.5).rest
    for part in (sample.with_role(Role.PRIOR), sample.take([0, 1]), sample.take(slice(0, 3)), rest):
        assert (part.columns, part.table) == (sample.columns, sample.table)
    bare = Sample(sample.inputs, sample.labels, 2, Role.TRAIN, "bare")
    assert (bare.columns, bare.table) == ((), None)
    assert bare.content_hash == sample.content_hash
    with pytest.raises(InputError, match="one name for each input"):
        Sample(sample.inputs, sample.labels, 2, Role.TRAIN, "bare", columns=("a",))


def test_an_archive_may_name_its_inputs(tmp_path):
    x, y = np.eye(4, 3, dtype=np.float32), np.array([0, 1, 0, 1])
    for columns, expected in (
        (np.array(["a", "b", "ç"]), ("a", "b", "ç")),
        (np.arange(3), ()),
        (np.array([["a", "b", "c"]]), ()),
        (np.array(["x" * 1001, "b", "c"]), ()),
        (np.array(["a", None, "c"]), ()),
        (np.array(["a", "b"]), ()),
    ):
        np.savez(tmp_path / "a.npz", x=x, y=y, columns=columns)
        assert load_sample(tmp_path / "a.npz", Role.TRAIN).columns == expected


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@given(st.lists(st.tuples(CELLS, CELLS, st.sampled_from("01")), min_size=1, max_size=5), st.booleans())
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows, crlf):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        # with line feeds alone the module writes a carriage return without quotes
        form = ("\r\n", csv.QUOTE_MINIMAL) if crlf else ("\n", csv.QUOTE_ALL)
        writer = csv.writer(file, lineterminator=form[0], quoting=form[1])
        writer.writerows([("a", "b", "y"), *rows])
    source = reader.open_csv(path)
    found = [list(block.texts(k)) for block in source.blocks for k in range(3)]
    assert source.header == ("a", "b", "y")
    assert found == [[row[k].strip() for row in rows] for k in range(3)]


def test_forms_of_one_table(write):
    plain = read(write(CHURN)).content_hash
    same = [
        b"\xef\xbb\xbf" + CHURN.encode(),
        CHURN.replace("\n", "\r\n"),
        CHURN.rstrip("\n"),
        CHURN + "\n\n",
        CHURN.replace("OH", '"OH"').replace("churn", '"churn"'),
        CHURN.replace(",", " , "),
        CHURN.replace("NA", "").replace("12.5", "1.25e1"),
    ]
    assert {read(write(each)).content_hash for each in same} == {plain}
    assert read(write(CHURN, "TABLE.CSV")).content_hash == plain
    quoted = read(write('a,churn\n"x, ""y""\nz",0\nb,1\n'))
    assert quoted.inputs[0, 0] == bucket('x, "y"\nz')


def test_a_reader_in_blocks_reads_the_same(write, monkeypatch):
    rows = "".join(f"{k % 7},{'NA' if k % 5 == 0 else k},c{k},{k % 2}\n" for k in range(50))
    whole = read(write("a,b,c,churn\n" + rows))
    for rows_at_once in (1, 4, 13):
        monkeypatch.setattr(reader, "block_rows", lambda width, count=rows_at_once: count)
        assert read(write("a,b,c,churn\n" + rows)).content_hash == whole.content_hash
    refuse(write("a,b,c,churn\n" + rows + "1,inf,c,1\n"), r"row 51, column 'b'.*'inf'")


# The order of columns and rows


def permuted(text, order):
    rows = [line.split(",") for line in text.splitlines()]
    return "".join(",".join(row[k] for k in order) + "\n" for row in rows)


def test_the_order_of_columns_is_the_headers_or_the_schemas(write):
    other = permuted(CHURN, [3, 2, 0, 1])
    assert read(write(other)).columns == ("plan", "state", "minutes")
    schema = {"columns": [{"name": name} for name in ("minutes", "plan", "state")]}
    samples = [read(write(text), schema=schema) for text in (CHURN, other)]
    assert samples[0].columns == samples[1].columns == ("minutes", "plan", "state")
    assert samples[0].content_hash == samples[1].content_hash
    assert samples[0].table == samples[1].table


def test_further_files_are_read_like_the_first(write):
    sample = read(write(CHURN))
    like = schema_like("more.csv", sample.table)
    assert like == Schema((Column("state"), Column("minutes"), Column("plan")), "churn")
    held = read(write(permuted(CHURN, [3, 2, 0, 1]), "more.csv"), None, like, Role.HOLDOUT, 2)
    assert np.array_equal(held.inputs, sample.inputs)
    without = read(write(permuted(CHURN, [2, 0, 1]), "more.csv"), None, like, Role.UNLABELLED, 2)
    assert np.array_equal(without.inputs, sample.inputs)
    assert not without.has_labels
    refuse(write(permuted(CHURN, [2, 0, 3]), "more.csv"), "columns of the schema: 'minutes'", label=None, schema=like)
    assert schema_like("more.npz", sample.table) is None
    assert schema_like("more.csv", None) is None


def test_permuted_rows_are_permuted_numbers(write):
    head, *rows = CHURN.splitlines()
    there = read(write(CHURN)).inputs
    back = read(write("\n".join([head, *rows[::-1]]))).inputs
    assert np.array_equal(there, back[::-1])


def test_values_that_were_never_seen_are_no_surprise(write):
    sample = read(write(CHURN.replace("OH", "Ünbekannt").replace("12.5", "soon")))
    assert sample.inputs[0].tolist() == [bucket("Ünbekannt"), bucket("soon"), bucket("yes")]
    schema = {"columns": [{"name": "state", "categories": ["KS"]}]}
    assert read(write(CHURN), schema=schema).inputs[:, 0].tolist() == [1, 0, 1]


# Labels


def test_labels_are_numbers_or_declared_names(write):
    text = "a,y\n1,no\n2,yes\n3,no\n"
    sample = read(write(text), "y", {"classes": ["no", "yes", "maybe"]})
    assert (sample.labels.tolist(), sample.num_classes, sample.classes_inferred) == ([0, 1, 0], 3, False)
    numbers = read(write("a,y\n1,0\n2,2.0\n3,1.\n"), "y")
    assert (numbers.labels.tolist(), numbers.num_classes, numbers.classes_inferred) == ([0, 2, 1], 3, True)
    stated = read(write("a,y\n1,1\n2,2\n"), "y", num_classes=5)
    assert (stated.num_classes, stated.classes_inferred) == (5, False)
    assert read(write("a,y\n1,1\n2,2\n"), "y", {"classes": ["1", "2"]}).labels.tolist() == [0, 1]
    assert read(write("a,y\n1,NA\n2,b\n"), "y", {"classes": ["NA", "b"]}).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (["no", "yes"], r"got 'no', 'yes'; name them in the order of their numbers, e.g. --class-names no,yes"),
        (["on time", "late"], r"e.g. --class-names 'late,on time'"),
        (["1", "2"], r"--class-names 1,2"),
        (["-1", "1"], r"--class-names -1,1"),
        (["0", "yes"], r"--class-names 0,yes"),
        (["0.5", "1"], r"--class-names 0.5,1"),
        (["9" * 19, "1"], "integers from 0"),
        (['"a,b"', "c"], "list these names as classes in a schema"),
        ([f"id{k}" for k in range(20)], r"20 different texts \('id0', .* and 12 more\)"),
        ([f"{k / 8}" for k in range(2000)], "more than 1,000 different texts"),
        (["0", ""], r"a label in row 2, column 'y'.*got ''"),
        (["0", "NaN"], r"a label in row 2, column 'y'.*got 'NaN'"),
        (["0", "0"], "at least two classes"),
        (["0", str(10**9)], "at most 1048576 classes"),
    ],
)
def test_labels_that_cannot_be_used(write, labels, match):
    rows = "".join(f"{k},{label}\n" for k, label in enumerate(labels))
    refuse(write("a,y\n" + rows), match, label="y")


def test_labels_beyond_the_declared_ones(write):
    names = {"classes": ["no", "yes"]}
    refuse(
        write("a,y\n1,no\n2,perhaps\n"),
        r"one of the classes 'no', 'yes' in row 2, column 'y'.*'perhaps'",
        label="y",
        schema=names,
    )
    refuse(write("a,y\n1,no\n2,\n"), "a label in row 2", label="y", schema=names)
    refuse(write("a,y\n1,no\n2,yes\n"), "2 classes, as they are named", label="y", schema=names, num_classes=3)
    refuse(write("a,y\n1,yes\n2,yes\n"), "at least two classes", label="y", schema=names)


def test_the_label_must_be_named(write):
    refuse(write(CHURN), r"got none named; name it with --label: 'state', 'minutes', 'plan', 'churn'", label=None)
    refuse(write(CHURN), r"got 'Churn'; name it with --label", label="Churn")
    every = load_sample(write(CHURN), Role.UNLABELLED, num_classes=2)
    assert (every.columns, every.table) == (("state", "minutes", "plan", "churn"), None)


def test_labels_and_schemas_are_of_tables(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(4, dtype=np.float32), y=np.array([0, 1, 0, 1]))
    for options in ({"label": "y"}, {"schema": {}}):
        for source in (tmp_path / "a.npz", "digits"):
            with pytest.raises(InputError, match=r"a table in a .csv or .parquet file"):
                load_sample(source, Role.TRAIN, **options)


# What is refused


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "got an empty file"),
        ("\n", "the name"),
        ("a,churn\n", "at least one row"),
        ("a,churn\r\n\r\n", "at least one row"),
        ("a,a,churn\n1,2,0\n", "'a' twice"),
        ("a, a ,churn\n1,2,0\n", "'a' twice"),
        (",a,churn\n0,1,0\n", "none of column 1; .*index=False"),
        ("x" * 1001 + ",churn\n0,1\n", "at most 1,000 characters"),
        ("churn\n0\n1\n", "at least one column of inputs"),
        ("a,churn\n1,0\n2\n", r"2 fields in row 2, as in the header.*got 1"),
        ("a,churn\n1,0,5\n", r"2 fields in row 1, as in the header.*got 3"),
        ("a;churn\n1;0\n", "semicolons between"),
        ("a\tchurn\n1\t0\n", "tabs between"),
        ('a,churn\n"x"y,0\n', r"row 1.*expected after"),
        ('a,churn\n1,0\n"x,0\n', r"row 2.*unexpected end of data"),
        ("a,churn\n1e39,0\n", r"that float32 can hold in row 1, column 'a'.*got '1e39'"),
        ("a,churn\n1,0\n-inf,0\n", r"row 2, column 'a'.*got '-inf'"),
        (b"a,churn\nM\xfcller,0\n", "UTF-8 text"),
        (CHURN.encode("utf-16"), "UTF-8 text"),
        ("a,churn\n1,\x000\n", "a NUL character in row 1"),
        ("a,churn\n" + "x" * 200_000 + ",0\n", "row 1.*field limit"),
    ],
)
def test_what_is_no_table_is_refused(write, content, match):
    refuse(write(content), match)


def test_a_column_that_the_file_has_under_an_indicators_name(write):
    path = write("a,a is missing,churn\n1,2,0\n2,2,1\n")
    refuse(path, "'a is missing' twice", schema={"columns": [{"name": "a", "missing": True}]})
    refuse(path, "columns of the schema: 'b'", schema={"columns": [{"name": "b"}]})
    assert read(path, schema={"columns": [{"name": "b", "use": False}]}).columns == ("a", "a is missing")
    refuse(
        path,
        "at least one column of inputs",
        schema={"columns": [{"name": n, "use": False} for n in ("a", "a is missing")]},
    )


def test_a_folder_is_no_table(tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"none of them|leave out label"):
        read(tmp_path / "folder.csv")


# Peeking


def test_a_peek_reads_no_label(write):
    schema = Schema(label="churn")
    nonsense = CHURN.replace(",0\n", ",what\n").replace(",1\n", ",\n")
    for text in (CHURN, nonsense):
        seen = peek(str(write(text)), None, schema)
        assert (len(seen), seen.role, seen.classes_inferred, seen.has_labels) == (2, Role.UNLABELLED, True, False)
        assert np.array_equal(seen.inputs, read(write(CHURN)).inputs[:2])
        assert seen.table == read(write(CHURN)).table
    named = peek(str(write(CHURN)), None, {"label": "churn", "classes": ["0", "1"]})
    assert (named.num_classes, named.classes_inferred) == (2, False)
    with pytest.raises(InputError, match="the name of the label's column"):
        peek(str(write(CHURN)))
    with pytest.raises(InputError, match="a table"):
        peek("digits.npz", None, schema)


# Parquet


@pytest.fixture
def parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def file(columns, name="table.parquet", **options):
        path = tmp_path / name
        parquet.write_table(arrow.table(columns), path, **options)
        return path

    return file


def test_a_parquet_file_is_read_like_its_csv(write, parquet):
    arrow = pytest.importorskip("pyarrow")
    columns = {
        "whole": [1, None, 3, 2**40],
        "real": [1.5, float("nan"), None, -0.0],
        "text": ["OH", " 5 ", None, "NA"],
        "flag": [True, False, None, True],
        "churn": [0, 1, 1, 0],
    }
    sample = read(parquet(columns))
    text = "whole,real,text,flag,churn\n1,1.5,OH,true,0\n,NaN,5,false,1\n3,,,,1\n1099511627776,-0.0,NA,true,0\n"
    assert np.array_equal(sample.inputs, read(write(text)).inputs)
    assert sample.labels.tolist() == [0, 1, 1, 0]
    assert sample.columns == ("whole", "real", "text", "flag")
    coded = {name: arrow.array(column).dictionary_encode() for name, column in columns.items()}
    schema = {
        "columns": [{"name": "text", "categories": ["OH"], "missing": True}, {"name": "whole", "categories": ["3"]}]
    }
    for options in ({}, {"schema": schema}):
        expected = read(write(text), **options)
        for each in (columns, coded):
            found = read(parquet(each, row_group_size=3), **options)
            assert np.array_equal(found.inputs, expected.inputs)
            assert (found.columns, found.table) == (expected.columns, expected.table)


def test_parquet_in_blocks_and_with_refused_numbers(parquet, monkeypatch):
    columns = {"a": [f"t{k % 7}" for k in range(50)], "b": list(range(50)), "churn": [k % 2 for k in range(50)]}
    whole = read(parquet(columns))
    from bitcert.data import parquet as module

    monkeypatch.setattr(module, "block_rows", lambda width: 4)
    assert read(parquet(columns)).content_hash == whole.content_hash
    refuse(parquet({**columns, "b": [0.0] * 41 + [np.inf] * 9}), r"row 42, column 'b'.*'inf'")
    refuse(parquet({**columns, "a": ["x"] * 33 + ["1e39"] + ["y"] * 16}), r"row 34, column 'a'.*'1e39'")
    refuse(parquet({**columns, "churn": ["no"] * 25 + ["yes"] * 25}), "--class-names no,yes")
    refuse(parquet({"a": [], "churn": []}), "at least one row")


def test_parquet_types_that_are_no_cells(parquet, write):
    for column, kind in (([b"a", b"b"], "binary"), ([[1], [2]], "list"), ([{"k": 1}, {"k": 2}], "struct")):
        refuse(parquet({"a": column, "churn": [0, 1]}), f"column 'a'.*type {kind}")
    for content in (b"", b"PAR1", b"PAR1" + b"\0" * 20 + b"PAR1", b"a,churn\n1,0\n"):
        refuse(write(content, "table.parquet"), "Parquet file|readable file")


def test_without_pyarrow_the_sentence_says_what_to_install(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    refuse(write(b"PAR1", "table.parquet"), r"pip install 'bitcert\[tables\]'")


def test_real_tables_come_back(tmp_path, monkeypatch):
    import os
    from pathlib import Path

    folder = Path(os.environ.get("BITCERT_DATA", "nowhere"), "tabular", "churn")
    if not folder.is_dir():
        pytest.skip("BITCERT_DATA has no tables")
    described = json.loads((folder / "columns.json").read_text())
    with np.load(folder / "train.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    lists = [described["categories"].get(name) for name in described["features"]]
    with open(tmp_path / "churn.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*described["features"], "churn"])
        for row, label in zip(x, y, strict=True):
            cells = [each[int(v)] if each else repr(float(v)) for v, each in zip(row, lists, strict=True)]
            writer.writerow([*cells, described["classes"][label]])
    columns = [
        {"name": n, **({"categories": c} if c else {})} for n, c in zip(described["features"], lists, strict=True)
    ]
    sample = read(tmp_path / "churn.csv", schema={"columns": columns, "classes": described["classes"]})
    assert np.array_equal(sample.inputs, x)
    assert np.array_equal(sample.labels, y)
    assert x.size > table.BLOCK_CELLS, "several blocks"
