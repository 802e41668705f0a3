"""Tables of others row by row: by hand, with the faults of real files."""

import pytest
from fuzz import memory

from signer_jax.data import tables
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
        ("näme|text\na|b\n".encode("latin-1"), "its first line is no UTF-8 text; download it again"),
        ("name|text\na|b\n".encode("utf-16"), "its first line is no UTF-8 text; download it again"),
    ],
)
def test_a_table_that_is_none_is_refused_before_its_first_row(tmp_path, content, says):
    (tmp_path / "table").write_bytes(content)
    with pytest.raises(SignerError, match=says) as error:
        tables.rows(tmp_path / "table", ("name", "text"), delimiter="|")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_any_line_end_ends_a_line_that_is_cut(tmp_path, end):
    found = rows(tmp_path, end.join([b"name|text", b"a|b", b"", b"x", b"c|d"]))
    assert [(row.line, row.fault) for row in found] == [(2, ""), (4, "row cut short"), (5, "")]


def test_a_table_that_breaks_off_is_refused_where_its_end_is_known(tmp_path):
    file = tmp_path / "table"
    for whole in (b"name|text\na|b", b"name|text\na|b\nc\n", b"name|text\na|b\nc\r", b"name|text\na|b|c", b"name|text"):
        file.write_bytes(whole)
        tables.check_end(file, "|")
    file.write_bytes(b"name|text\na|b\n\nc")
    with pytest.raises(SignerError, match=r"table: line 4, the last, is cut short; download it again"):
        tables.check_end(file, "|")


def test_a_table_may_have_any_of_its_columns_but_not_none(tmp_path):
    assert rows(tmp_path, b"b|x\n1|2\n", (), ("a", "b"))[0].cells == {"b": "1"}
    with pytest.raises(SignerError, match="has none of the columns a, b"):
        rows(tmp_path, b"x|y\n1|2\n", (), ("a", "b"))


@pytest.mark.parametrize(
    ("data", "needs", "delimiter", "says"),
    [
        (b"name;text\na;b\n", (), "", "is cut by semicolons, and commas are needed"),
        (b"name\ttext\na\tb\n", ("name",), "", "is cut by tabs, and commas are needed"),
        (b"name,text\na,b\n", ("name",), "\t", "is cut by commas, and tabs are needed; save it with these"),
    ],
)
def test_a_table_that_is_cut_by_something_else_is_refused(data, needs, delimiter, says, tmp_path):
    (tmp_path / "table").write_bytes(data)
    with pytest.raises(SignerError, match=says):
        tables.rows(tmp_path / "table", needs, ("name", "text"), delimiter=delimiter)


def test_a_table_is_not_held(tmp_path):
    (tmp_path / "table").write_text("name|text\n" + "a|b\n" * 300_000)
    count = lambda: sum(1 for _ in tables.rows(tmp_path / "table", ("name", "text"), delimiter="|"))  # noqa: E731
    assert memory.allocated(count) < 20 << 20 and count() == 300_000


def test_heads_of_lines_of_any_length(tmp_path):
    (tmp_path / "skels").write_bytes(b"1 2 3\r\n\n" + b"4 " * 200_000 + b"\n \n5 6")
    assert [head[:8] for head in tables.heads(tmp_path / "skels", 6)] == [b"1 2 3", b"", b"4 4 4 ", b" ", b"5 6"]
    assert memory.allocated(lambda: list(tables.heads(tmp_path / "skels", 6))) < 4 << 20


def test_files_of_parallel_lines(tmp_path):
    one, two = tmp_path / "a.text", tmp_path / "a.skels"
    one.write_bytes(b"\xef\xbb\xbfeins\r\nzwei\xe2\x80\xa8zwei\n\ndrei")  # a line separator is no line's end here
    two.write_bytes(b"1\n\n2\n\n\n\n")  # blank at the end: too many lines, and the fourth has nothing
    assert tables.check_parallel([one, two]) == 4
    assert list(tables.parallel([one, two], 4)) == [("eins", "1"), ("zwei\u2028zwei", ""), ("", "2"), ("drei", "")]
    two.write_bytes(b"1\n\n2\n")
    with pytest.raises(SignerError, match=r"a\.skels: has 3 lines, a\.text 4, and they belong together line by line"):
        tables.check_parallel([one, two])
