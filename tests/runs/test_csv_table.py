"""Damaged tables: what can be read is kept, what cannot is said and set aside, and nothing raises."""

import importlib.util
import warnings
from pathlib import Path

import pytest

from fastrl.errors import RunFolderError
from fastrl.runs.csv_table import CsvTable, has_rows, read_columns, read_content

GOOD = b"env_steps,a,b\n10,1,2\n20,3,\n30,5,6.5\n"
FUZZ = Path(__file__).parents[2] / "bench" / "attack" / "damaged_logs.py"


def table(tmp_path, data):
    path = tmp_path / "metrics.csv"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "steps", "damage"),
    [
        (GOOD, [10, 20, 30], ""),
        (GOOD + b"40,7", [10, 20, 30], ""),
        (b"", [], ""),
        (b"env_steps,a,b\n", [], ""),
        (b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), [10, 20, 30], ""),
        (GOOD.replace(b"3,", b"\xff,"), [10, 30], "1 of 3 lines could not be read"),
        (GOOD.replace(b"20", "²".encode()), [10, 30], "1 of 3 lines could not be read"),
        (GOOD.replace(b"20", "２０".encode()), [10, 30], "1 of 3 lines could not be read"),
        (GOOD.replace(b"20", b"9" * 5000), [10, 30], "1 of 3 lines could not be read"),
        (GOOD.replace(b"20", b"-20"), [10, 30], "1 of 3 lines could not be read"),
        (GOOD.replace(b"6.5", b"6_5"), [10, 20], "1 of 3 lines could not be read"),
        (GOOD.replace(b"6.5", b"6.5,7"), [10, 20], "1 of 3 lines could not be read"),
        (GOOD.replace(b"6.5", b"1" * 10**6), [10, 20], "1 of 3 lines could not be read"),
        (GOOD.replace(b"6.5", b"\0"), [10, 20], "1 of 3 lines could not be read"),
        (GOOD + b"\n\n", [10, 20, 30], "2 of 5 lines could not be read"),
        (
            GOOD.replace(b"20", b"25").replace(b"30", b"15"),
            [10, 15, 25],
            "lines are not in the order of their steps",
        ),
        (GOOD.replace(b"b\n", b"a\n"), [10, 20, 30], "a column stands there twice"),
        (GOOD.replace(b"env", b"\xe5nv"), [10, 20, 30], ""),
        (GOOD.partition(b"\n")[2], [], "its first line does not name the columns"),
        (b'env_steps,"a\n10,1\n', [], "its first line does not name the columns"),
        (b"\0" * 1000, [], "its first line does not name the columns"),
        (bytes(range(256)) * 20, [], "its first line does not name the columns"),
        (b"env_steps," + b"a" * 200_000 + b"\n10,1\n", [], "its first line does not name the columns"),
    ],
)
def test_what_is_read_of_a_table(tmp_path, data, steps, damage):
    path = table(tmp_path, data)
    found = read_content(path)
    assert [int(row["env_steps"]) for row in found.rows] == steps and found.damage == damage


def test_of_two_columns_of_one_name_the_first_counts(tmp_path):
    assert read_columns(table(tmp_path, GOOD.replace(b"b\n", b"c\n")), "a", "c") == [
        (10.0, 1.0, 2.0),
        (30.0, 5.0, 6.5),
    ]
    with pytest.warns(UserWarning, match="a column stands there twice"):
        assert read_columns(table(tmp_path, GOOD.replace(b"b\n", b"a\n")), "a")[0] == (10.0, 1.0)


def test_a_damaged_table_is_set_aside_once_and_what_was_read_goes_on(tmp_path):
    damaged = GOOD.replace(b"3,", b"\xff,")
    path = table(tmp_path, damaged)
    with pytest.warns(
        UserWarning,
        match="metrics.csv was damaged: 1 of 3 lines could not be read; it is kept as metrics.damaged-",
    ):
        CsvTable(path).cut(20)
    [aside] = tmp_path.glob("metrics.damaged-*.csv")
    assert aside.read_bytes() == damaged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = CsvTable(path)
        again.append({"a": 9.0}, 25)
    assert path.read_text() == "env_steps,a,b\n10,1,2\n25,9,\n"


def test_junk_is_set_aside_before_the_first_row_takes_its_place(tmp_path):
    path = table(tmp_path, b"\x89PNG")
    with pytest.warns(UserWarning, match="its first line does not name the columns"):
        CsvTable(path).append({"a": 1.0}, 5)
    assert path.read_text() == "env_steps,a\n5,1\n"
    assert [aside.read_bytes() for aside in tmp_path.glob("metrics.damaged-*.csv")] == [b"\x89PNG"]


def test_a_folder_or_a_link_in_the_table_s_place_is_set_aside_too(tmp_path):
    path = tmp_path / "metrics.csv"
    path.mkdir()
    with pytest.warns(UserWarning, match="cannot be read: it is a folder"):
        CsvTable(path).cut(10)
    assert path.read_text() == "env_steps\n"
    path.unlink()
    (tmp_path / "elsewhere").write_text("not ours")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match="links inside a run are not followed"):
        CsvTable(path).append({"a": 1.0}, 5)
    assert (tmp_path / "elsewhere").read_text() == "not ours" and not path.is_symlink()


@pytest.mark.parametrize("left", [None, b"", b"env_steps,a\n1,2\n7,"])
def test_a_file_that_is_removed_or_cut_while_it_is_written_gets_its_header_again(tmp_path, left):
    path = tmp_path / "metrics.csv"
    rows = CsvTable(path)
    for step in (1, 2, 3):
        rows.append({"a": step * 2.0}, step)
    path.unlink()
    if left is not None:
        path.write_bytes(left)
    rows.append({"a": 8.0}, 4)
    rows.append({"a": 10.0}, 5)
    assert path.read_text() == "env_steps,a\n" + ("1,2\n" if left else "") + "4,8\n5,10\n"


def test_a_table_may_begin_without_a_row(tmp_path):
    path = tmp_path / "metrics.csv"
    rows = CsvTable(path)
    rows.begin()
    assert path.read_text() == "env_steps\n" and not has_rows(path) and not has_rows(tmp_path / "missing")
    rows.append({"a": 1.0}, 5)
    rows.begin()
    assert path.read_text() == "env_steps,a\n5,1\n" and has_rows(path)


def test_names_that_no_header_holds_are_made_to_fit(tmp_path):
    path = tmp_path / "metrics.csv"
    CsvTable(path).append({"a\nb": 1.0, "": 2.0, "c,d": 3.0, "7": 4.0, "env_steps": 99.0}, 5)
    found = read_content(path)
    assert found.damage == "" and found.rows == [
        {"env_steps": "5", "7": "4", "a b": "1", "c,d": "3", "unnamed": "2"}
    ]


def test_what_finds_no_room_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "metrics.csv"
    rows = CsvTable(path)
    rows.append({"a": 1.0}, 1)
    before = path.read_bytes()

    def full(*_):
        raise RunFolderError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("fastrl.runs.csv_table.append_to_file", full)
        with pytest.raises(RunFolderError):
            rows.append({"a": 2.0}, 2)
    assert path.read_bytes() == before
    rows.append({"a": 3.0}, 3)
    assert path.read_text() == "env_steps,a\n1,1\n3,3\n"


def test_a_short_part_of_the_fuzzing():
    spec = importlib.util.spec_from_file_location("damaged_logs", FUZZ)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    counts = module.run(200, seed=1)
    assert counts["calls"] == 200 and counts["set aside"] > 50 and not counts["failures"]
