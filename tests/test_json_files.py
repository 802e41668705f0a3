"""JSON from outside takes no more memory than it may, and what may be meant is read."""

import json

import pytest
from fuzz import memory

from signer_jax import json_files, storage
from signer_jax.json_files import CONFIG, LISTS, read_json

MANY = 21_000_000


@pytest.mark.parametrize("unit", ["[],", "{},", "[0],", '{"":0},', "1e9,", "0,", '"ab",', '"\U0001f600",'])
def test_small_files_do_not_become_large_values(tmp_path, unit):
    """Some 21 MB of `[],` were 481 MB of lists."""
    file = tmp_path / "x.json"
    file.write_text("[" + unit * (MANY // len(unit.encode())) + "0]")

    def tried():
        with pytest.raises(ValueError, match="MB"):
            read_json(file, LISTS)
        with pytest.raises(ValueError, match="more than 1 MB"):
            read_json(file, CONFIG)

    assert memory.grown(tried) < 100 << 20


@pytest.mark.parametrize("unit", ["[],", '{"":0},', '"ab",', '{"%x":0},', '"\U0001f600",'])
def test_what_is_read_takes_what_was_counted(unit, monkeypatch):
    """The longest list of its kind, to an eighth. CPython's own count: the allocator's free memory is not JSON's."""
    monkeypatch.setattr(json_files, "MOST_MEMORY", 1 << 25)
    for eighths in range(48, 8, -1):
        count = int(2 ** (eighths / 8) * 20_000)
        data = f"[{''.join(unit % i if '%' in unit else unit for i in range(count))}0]".encode()
        try:
            json_files.parse_json(data, LISTS)
        except ValueError:
            continue
        break
    assert eighths < 48 and len(data) > 400_000
    assert memory.allocated(lambda: json_files.parse_json(data, LISTS)) <= 1 << 25


def test_a_large_corpus_and_a_vocabulary_are_read(tmp_path):
    clips = {"motions": {"train": [[137, True, f"signer {i % 100}"] for i in range(100_000)]}}
    vocabulary = {"model": {"vocab": [[f"\u2581piece{i}", -i / 7] for i in range(100_000)]}}
    for value in (clips, vocabulary):
        (tmp_path / "x.json").write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8-sig")
        assert read_json(tmp_path / "x.json", LISTS) == value


def test_a_manifest_of_many_megabytes_is_none(tmp_path):
    with storage.new_folder(tmp_path / "x", "pose database"):
        pass
    assert storage.files_of(tmp_path / "x") == {"manifest.json"}
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    (tmp_path / "x" / "manifest.json").write_text(json.dumps({**manifest, "a": [[]] * (MANY // 4)}))
    assert memory.grown(lambda: storage.files_of(tmp_path / "x")) < 50 << 20
    assert storage.files_of(tmp_path / "x") == set()
