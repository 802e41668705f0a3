"""Tables of others row by row, and pickles as data: by hand, with the faults of real files."""

import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from fuzz import memory

from signer_jax.data import tables
from signer_jax.data.datasets import plain_pickle
from signer_jax.errors import SignerError

HEADER = b"name|text\n"


def rows(folder, content: bytes, needs=("name", "text"), may_have=(), delimiter="|"):
    (folder / "table").write_bytes(content)
    return list(tables.rows(folder / "table", needs, may_have, delimiter=delimiter))


def test_lines_are_cut_at_the_delimiter_and_quotes_are_letters(tmp_path):
    content = b'\xef\xbb\xbfname|other|text\r\na|x|"he said ""no"\r\n\r\n  b |y| it\'s " \n'
    first, second = rows(tmp_path, content)
    assert first == (2, {"name": "a", "text": '"he said ""no"'}, "", "")
    assert second == (4, {"name": "b", "text": "it's \""}, "", "")


def test_a_csv_is_unquoted_and_its_white_space_is_one_space(tmp_path):
    content = 'text,name\n"one, ""two""\n three",ä\n'.encode()
    assert rows(tmp_path, content, delimiter="") == [(3, {"name": "ä", "text": 'one, "two" three'}, "", "")]


@pytest.mark.parametrize(
    ("row", "fault", "detail"),
    [
        (b"a", "row cut short", "1 cells where the header has 2"),
        (b"a|b|c", "too many cells", "3 cells"),
        (b"a|\xff", "no UTF-8", "in text"),
        (b"a|b\x1b[2J", "control character", "in text"),
        ("a|b" + "\u0301" * 40, "more than 30 marks on a letter", "in text"),
        (b"a|" + b"x" * 100_001, "too long a text", "in text"),
        (b"a|" + b"x" * 3_000_000, "unreadable row", "more than 2000000 characters"),
    ],
)
def test_a_row_comes_with_its_fault_and_the_next_is_read(tmp_path, row, fault, detail):
    row = row if isinstance(row, bytes) else row.encode()
    bad, good = rows(tmp_path, HEADER + row + b"\nc|d\n")
    assert bad.line == 2 and bad.fault == fault and detail in bad.detail
    assert good == (3, {"name": "c", "text": "d"}, "", "")


def test_what_is_no_csv_is_a_row_with_a_fault(tmp_path):
    bad, good = rows(tmp_path, b'name,text\na,"b"c\nd,e\n', delimiter="")
    assert bad.fault == "unreadable row" and good.cells == {"name": "d", "text": "e"}
    assert rows(tmp_path, b'name,text\na,"open', delimiter="")[0].fault == "unreadable row"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no header"),
        (b"name|sentence\na|b\n", r"lacks the column 'text' \(it has name, sentence\); download it again"),
        (b"name|text|text\na|b|c\n", "has the column 'text' twice"),
        (b"name|text\n\n", "holds no row"),
    ],
)
def test_a_table_that_is_none_is_refused_before_its_first_row(tmp_path, content, says):
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(SignerError, match=says) as error:
        tables.rows(tmp_path / "table", ("name", "text"), delimiter="|")
    assert "\n" not in str(error.value)


def test_a_table_may_have_any_of_its_columns_but_not_none(tmp_path):
    assert rows(tmp_path, b"b|x\n1|2\n", (), ("a", "b"))[0].cells == {"b": "1"}
    with pytest.raises(SignerError, match="has none of the columns a, b"):
        rows(tmp_path, b"x|y\n1|2\n", (), ("a", "b"))


def test_a_table_is_not_held(tmp_path):
    (tmp_path / "table").write_text("name|text\n" + "a|b\n" * 300_000)
    count = lambda: sum(1 for _ in tables.rows(tmp_path / "table", ("name", "text"), delimiter="|"))  # noqa: E731
    assert memory.grown(count) < 20 << 20 and count() == 300_000


def test_heads_of_lines_of_any_length(tmp_path):
    (tmp_path / "skels").write_bytes(b"1 2 3\r\n\n" + b"4 " * 200_000 + b"\n \n5 6")
    assert [head[:8] for head in tables.heads(tmp_path / "skels", 6)] == [b"1 2 3", b"", b"4 4 4 ", b" ", b"5 6"]
    assert memory.grown(lambda: list(tables.heads(tmp_path / "skels", 6))) < 4 << 20


def test_files_of_parallel_lines(tmp_path):
    one, two = tmp_path / "a.text", tmp_path / "a.skels"
    one.write_bytes(b"\xef\xbb\xbfeins\r\nzwei\xe2\x80\xa8zwei\n\ndrei")  # a line separator is no line's end here
    two.write_bytes(b"1\n\n2\n\n\n\n")  # blank at the end: too many lines, and the fourth has nothing
    assert tables.check_parallel([one, two]) == 4
    assert list(tables.parallel([one, two], 4)) == [("eins", "1"), ("zwei\u2028zwei", ""), ("", "2"), ("drei", "")]
    two.write_bytes(b"1\n\n2\n")
    with pytest.raises(SignerError, match=r"a\.skels: has 3 lines, a\.text 4, and they belong together line by line"):
        tables.check_parallel([one, two])


# ---- Pickles ---------------------------------------------------------------------------------------------------------

PLAIN = {"info": [{"name": "S1", "label": ["你们", "好"], "signer": 4, "pair": (1.5, None, True), "far": 1 << 40}]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_of_plain_values_is_read_in_every_protocol(tmp_path, protocol):
    value = {**PLAIN, "again": PLAIN["info"], "empty": [(), {}, []], "many": list(range(3000)), 7: ("a", "b", "c", "d")}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(value, protocol))
    read = plain_pickle.read(tmp_path / "a.pkl")
    assert read == value and read["again"] is read["info"]


class Hostile:
    def __init__(self, call, *arguments) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_that_a_pickle_says_is_executed(tmp_path, protocol):
    mark = tmp_path / "executed"
    for value in (
        Hostile(open, str(mark), "w"),
        Hostile(exec, f"open({str(mark)!r}, 'w')"),
        np.zeros(3),
        OrderedDict(),
    ):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"info": value}, protocol))
        with pytest.raises(SignerError, match=r"is no pickle of plain values \(it has \w+ at byte \d+\)"):
            plain_pickle.read(tmp_path / "a.pkl")
    assert not mark.exists()


HARM = {
    "nothing": b"",
    "text": b"hello, world",
    "no end": pickle.dumps(PLAIN)[:-1],
    "a memo of two billion": b"\x80\x04N" + b"r" + struct.pack("<I", 1 << 31) + b"X\x08\x00\x00",
    "a text of two gigabytes": b"\x80\x04X" + struct.pack("<I", 1 << 31) + b"abc.",
    "eight exabytes": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "bytes that fill": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "no list to append to": b"\x80\x04}K\x01a.",
    "a mark as value": b"\x80\x04(.",
    "no mark": b"\x80\x04]K\x01e.",
    "a key without its value": b"\x80\x04}(K\x01u.",
    "a list as key": b"\x80\x04}]K\x01s.",
    "a deep key": b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "a value of nothing": b"\x80\x04.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "an unknown memo": b"\x80\x04h\x05.",
}


@pytest.mark.parametrize("what", HARM)
def test_a_harmed_pickle_is_refused_within_bounds(tmp_path, what):
    (tmp_path / "a.pkl").write_bytes(HARM[what])

    def refused() -> None:
        with pytest.raises(SignerError, match=r"a\.pkl: is no ") as error:
            plain_pickle.read(tmp_path / "a.pkl")
        assert "\n" not in str(error.value)

    refused()
    assert memory.grown(refused) < 64 << 20


def test_a_pickle_cut_anywhere_is_refused(tmp_path):
    whole = pickle.dumps(PLAIN)
    for end in range(len(whole)):
        (tmp_path / "a.pkl").write_bytes(whole[:end])
        with pytest.raises(SignerError):
            plain_pickle.read(tmp_path / "a.pkl")


def test_a_pickle_of_many_small_things_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_pickle, "MOST_STEPS", 1000)
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04](" + b"}" * 2000 + b"e.")
    with pytest.raises(SignerError, match="it has more than 1000 steps"):
        plain_pickle.read(tmp_path / "a.pkl")
    monkeypatch.setattr(plain_pickle, "MOST_BYTES", 100)
    with pytest.raises(SignerError, match="has more than 0 MB"):
        plain_pickle.read(tmp_path / "a.pkl")
