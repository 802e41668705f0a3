"""Pickles as data: what Python writes of arrays is read back, and nothing of a hostile one is ever done."""

import os
import pickle
import struct
import sys

import numpy as np
import pytest
from fuzz import memory

from signer_jax import pickles

MOST = 1 << 26
DONE: list[str] = []


class Calls:
    """A pickle that calls a function where it is loaded."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def note(what: str) -> str:
    DONE.append(what)
    return what


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_writes_is_read(protocol):
    value = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": [1, -2.5, True, None, "ü", b"\0x", (1, 2)],
        "c": {"d": np.asfortranarray(np.arange(6.0).reshape(3, 2)), "e": np.array([1, 2], ">i2")},
        "n": np.float64(3.5), "many": list(range(1000)), "long": 2**40,
    }  # fmt: skip
    found = pickles.read(pickle.dumps(value, protocol), MOST)
    np.testing.assert_array_equal(found["a"], value["a"])
    np.testing.assert_array_equal(found["c"]["d"], value["c"]["d"])
    np.testing.assert_array_equal(found["c"]["e"], [1, 2])
    assert found["b"] == value["b"] and found["n"] == 3.5 and found["many"] == value["many"] and found["long"] == 2**40


def test_an_array_of_objects_is_a_list():
    objects = np.empty(2, object)
    objects[:] = [{"a": np.ones(3)}, {"a": np.zeros(3)}]
    found = pickles.read(pickle.dumps(objects), MOST)
    assert [frame["a"].tolist() for frame in found] == [[1, 1, 1], [0, 0, 0]]


def _forged_type() -> bytes:
    """A type whose bytes numpy would take for the addresses of objects."""
    state = (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)

    class Forged:
        def __reduce__(self):
            return np.dtype, ("V8", False, True), state

    return pickle.dumps(Forged())


def _nested() -> bytes:
    return b"\x80\x04" + b"(" * 100_000 + b"l" * 100_000 + b"."


def _text_made_bytes(call: bytes) -> bytes:
    """A text of a million letters, of which a call makes bytes four hundred times."""
    text = b"]X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x00a"
    return b"\x80\x02" + text + (call + b"Ra") * 400 + b"."


HOSTILE = {
    "a command": pickle.dumps(Calls(os.system, "touch /tmp/never")),
    "a function of this file": pickle.dumps(Calls(note, "done")),
    "eval": b"c__builtin__\neval\n(S'note(1)'\ntR.",
    "a module of numpy": pickle.dumps(Calls(np.load, "/etc/passwd")),
    "getattr by a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
    "the setting of an instance": b"\x80\x02cnumpy\nndarray\n}X\x01\x00\x00\x00aK\x01sb.",
    "an object's class": pickle.dumps(Calls(type("X", (), {}).__class__, "Y", (), {})),
    "a huge array": pickle.dumps(Calls(np.zeros, (10**12,))),
    "a huge declared array": pickle.dumps(np.zeros(3)).replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"),
    "a huge text": b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"x",
    "a huge memo": b"\x80\x04N" + b"r" + struct.pack("<I", 2**32 - 1) + b"]" * 700_000 + b".",
    "a million lists": b"\x80\x04" + b"]" * 1_100_000 + b".",
    "one that doubles": b"\x80\x04" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60)) + b".",
    "deep nesting": _nested(),
    "a number of many digits": b"I" + b"9" * 5000 + b"\n.",
    "a forged type": _forged_type(),
    "colliding keys": pickle.dumps({i * (2**61 - 1): 0 for i in range(100)}),
    "bytes of a text, again and again": _text_made_bytes(b"c_codecs\nencode\nh\x00X\x06\0\0\0latin1\x86"),
    "arrays of a text, again and again": _text_made_bytes(
        b"cnumpy.core.numeric\n_frombuffer\n(h\x00cnumpy\ndtype\nX\x02\0\0\0u1\x85RJ@B\x0f\0\x85X\x01\0\0\0Ct"
    ),
    "an extension": b"\x80\x02\x82\x01.",
    "a persistent name": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "nothing": b"",
    "a text": b"hello, world",
    "bytes that fill": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"abc.",
    "no list to append to": b"\x80\x04}K\x01a.",
    "a mark as value": b"\x80\x04(.",
    "no mark": b"\x80\x04]K\x01e.",
    "a key without its value": b"\x80\x04}(K\x01u.",
    "a deep key": b"\x80\x04}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
    "a value of nothing": b"\x80\x04.",
    "an unknown memo": b"\x80\x04h\x05.",
    "half": pickle.dumps({"a": np.zeros(30)})[:-40],
    "no data": b"\x80\x02cnumpy\nndarray\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_of_a_hostile_pickle_is_done(name, monkeypatch):
    monkeypatch.setattr(os, "system", note)
    DONE.clear()

    def read():
        with pytest.raises(ValueError, match=r"^(its pickle|it holds)"):
            pickles.read(HOSTILE[name], MOST)

    modules = set(sys.modules)
    grown = memory.grown(read) if sys.platform == "linux" else read() or 0
    assert not DONE and not os.path.exists("/tmp/never")
    assert not {module for module in set(sys.modules) - modules if not module.startswith(("_", "encodings."))}
    assert grown < 200 << 20


def test_an_array_is_found_in_the_memo_at_once():
    class Memo(dict):
        looked = 0

        def __getitem__(self, key):
            self.looked += 1
            return super().__getitem__(key)

    array = pickle.dumps(np.zeros(3), 2)[2:-1].replace(b"Rq\x09(", b"R(")  # is not noted
    walk = pickles._Walk(MOST, {})
    walk.memo = Memo()
    for name, value in pickles._steps(b"\x80\x02" + b"".join(b"Nr" + struct.pack("<I", i) for i in range(300, 2300))
                                      + b"(" + array * 50 + b"l."):  # fmt: skip
        walk.take(name, value)
    assert [one.tolist() for one in walk.stack[-1]] == [[0, 0, 0]] * 50 and walk.memo.looked < 1000
    shared = np.zeros(3)
    one, other = pickles.read(pickle.dumps([shared, shared]), MOST)
    assert one is other


def test_a_list_that_doubles_is_refused_by_who_reads_it():
    from signer_jax.pose.formats import clip as clips

    value: list = [0.0]
    for _ in range(100):
        value = [value, value]
    with pytest.raises(ValueError, match="no list of 18"):
        clips.numbers(value, 18, 2)


def test_a_pickle_cut_anywhere_is_refused_and_so_are_too_many_steps():
    whole = pickle.dumps({"info": [{"name": "S1", "label": ["你们", "好"], "pair": (1.5, None, True)}]})
    for end in range(len(whole)):
        with pytest.raises(pickles.Refused):
            pickles.read(whole[:end], MOST)
    with pytest.raises(pickles.Refused, match="takes more than 9 steps"):
        pickles.read(whole, MOST, most_steps=9)
