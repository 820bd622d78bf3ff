"""JSON files are read with a byte order mark or without, and what is wrong with one is named."""

import pytest

from kbert.config import BertConfig
from kbert.files.json import read_json


def test_a_byte_order_mark_is_no_json(tmp_path):
    (tmp_path / "config.json").write_bytes('{"vocab_size": 9}'.encode("utf-8-sig"))
    assert read_json(tmp_path / "config.json") == {"vocab_size": 9}
    assert BertConfig.from_json(tmp_path / "config.json").vocab_size == 9


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"a": "\xff"}', b"[1]", b'{"a": ' + b"1" * 5000 + b"}"])
def test_a_file_that_holds_no_object_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    for read in (read_json, BertConfig.from_json):
        with pytest.raises(ValueError, match="config.json (is not JSON|should hold a JSON object)"):
            read(tmp_path / "config.json")
