"""pytorch_model.bin: bit-equal to torch's own reading, every built-in name, and nothing of a hostile pickle is run."""

import io
import json
import os
import pickle
import random
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import kbert
from kbert.checkpoints import hub, safetensors_file, torch_pickle
from kbert.checkpoints.catalogue import presets
from kbert.checkpoints.tensor_files import TensorFiles
from tests.checkpoints.torch_writer import number, pickled, tensor, text

FIXTURES = Path(__file__).parents[1] / "fixtures"
FILES = FIXTURES / "torch"  # by make_torch_files.py
LAYOUTS = ("values_zip.bin", "values_stream.bin")


def folder_of(name, folder):
    """A folder with one of torch's files and the configuration of its golden file."""
    with safe_open(FIXTURES / "golden" / f"{name.split('.')[0]}.safetensors", framework="numpy") as file:
        (folder / "config.json").write_text(file.metadata()["config"])
        tensors = {key: file.get_tensor(key) for key in file.keys() if key.startswith(("inputs/", "outputs/hidden"))}
    shutil.copy(FILES / name, folder / "pytorch_model.bin")
    return tensors


def check_vectors(preset, tensors):
    """Compares the vectors of an encoder with the golden ones."""
    encoder = kbert.BertEncoder.from_preset(preset)
    ids = tensors["inputs/input_ids"]
    inputs = {"token_ids": ids, "padding_mask": tensors["inputs/attention_mask"]}
    inputs["segment_ids"] = tensors.get("inputs/token_type_ids", 0 * ids)
    vectors = np.asarray(encoder(inputs, training=False)["sequence_output"])
    real = inputs["padding_mask"].astype(bool)
    expected = tensors[max((key for key in tensors if key.startswith("outputs/")), key=lambda key: int(key.split(".")[-1]))]
    np.testing.assert_allclose(vectors[real], expected[real], atol=2e-4)


def read_all(path):
    """Opens a file and reads each of its tensors."""
    tensors = TensorFiles(path, torch_pickle.places_of(path))
    values = {name: tensors.stored(name).copy() for name in tensors.names()}
    tensors.close()
    return values


@pytest.mark.parametrize("name", LAYOUTS)
def test_tensors_of_every_dtype_and_layout_are_bit_equal_to_torchs(name):
    path = FILES / "values.safetensors"
    expected = TensorFiles(path, safetensors_file.places_of(path))
    read = read_all(FILES / name)
    assert set(read) == expected.names() and len(read) == 74
    for key, values in read.items():
        wanted = expected.stored(key)
        assert (values.dtype, values.shape) == (wanted.dtype, wanted.shape), key
        assert values.tobytes() == wanted.tobytes(), key


def test_a_deflated_copy_is_read_as_the_original(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    name = "mobilebert_PreTraining.zip.bin"
    with zipfile.ZipFile(FILES / name) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in source.namelist():
            packed.writestr(member, source.read(member))
    ours, original = read_all(path), read_all(FILES / name)
    for key, values in original.items():
        np.testing.assert_array_equal(ours[key], values)


# By the architecture and the head that the repository's file holds, the file of the same kind and names at tiny size.
def fixture_of(name):
    if "distilbert" in name:
        return "distilbert_MaskedLM.zip.bin"
    if "mobilebert" in name:
        return "mobilebert_PreTraining.zip.bin"
    if name.startswith(("bert_uncased_l-", "tinybert", "minilm")):
        return "bert_PreTraining.zip.bin"  # with TinyBERT's projections
    return "bert_PreTraining.stream.bin"  # gamma and beta, as in 2018


@pytest.mark.parametrize("file", sorted({fixture_of(name) for name in presets()}))
def test_every_built_in_name_opens_from_a_pickle(file, tmp_path, monkeypatch):
    names = [name for name in presets() if fixture_of(name) == file and name != "all-minilm-l6-v2"]  # which is a package
    tensors = folder_of(file, tmp_path)
    monkeypatch.setattr(hub, "download", lambda place: tmp_path)
    check_vectors(names[0], tensors)
    for name in names[1:]:
        with kbert.checkpoints.opened.open_preset(name) as opened:
            rules = opened.family.rules(opened.config)
            assert {stored for rule in rules for stored in rule.names} <= opened.checkpoint.names()


def test_all_37_built_in_names_have_a_file_to_be_tested_with():
    assert len(presets()) == 37 and len({fixture_of(name) for name in presets()}) == 4


def test_shards_of_torch_open_by_their_index(tmp_path):
    tensors = folder_of("bert_PreTraining.zip.bin", tmp_path)
    os.rename(tmp_path / "pytorch_model.bin", tmp_path / "pytorch_model-00001-of-00001.bin")
    listing = {"weight_map": {"bert.pooler.dense.bias": "pytorch_model-00001-of-00001.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(listing))
    check_vectors(tmp_path, tensors)


def test_safetensors_are_read_where_both_stand_and_a_stale_file_is_refused(tmp_path, caplog):
    folder_of("bert_PreTraining.zip.bin", tmp_path)
    values = {name: value for name, value in read_all(tmp_path / "pytorch_model.bin").items() if "fit_dense" not in name}
    save_file({name: np.ascontiguousarray(value) for name, value in values.items()}, tmp_path / "model.safetensors")
    with caplog.at_level("INFO", "kbert"):
        kbert.BertEncoder.from_preset(tmp_path)
    assert "model.safetensors is read; pytorch_model.bin beside it holds the same weights" in caplog.text
    values["bert.pooler.dense.bias"] = values["bert.pooler.dense.bias"] + 1
    save_file({name: np.ascontiguousarray(value) for name, value in values.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"pytorch_model.bin beside it hold different weights \(pooler.dense.bias\).*stale"):
        kbert.BertEncoder.from_preset(tmp_path)


def zipped(content, **members):
    """The bytes of a ZIP file as torch writes it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", content)
        for name, value in members.items():
            archive.writestr(f"m/{name.replace('data_', 'data/')}", value)
    return file.getvalue()


def calls(module, name, argument):
    """A pickle that would call a function."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + text(argument) + b"\x85R."


def tensor_of(shape, strides, count, offset=0, key="0"):
    """A pickle of one tensor, whose storage is `data/0`."""
    return pickled({"w": tensor(shape, strides, count, offset, key)})


class Chain:
    """Reduces to a function of a function."""

    def __init__(self, depth):
        self.depth = depth

    def __reduce__(self):
        return (getattr, (Chain(self.depth - 1), "x")) if self.depth else (os.system, ("touch MARK",))


def bomb():
    """A ZIP file of 1 MB that would be 1 GB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data.pkl", tensor_of((1 << 20,), (1,), 1 << 20))
        archive.writestr("m/data/0", bytes(64 << 20))
    return file.getvalue()


HOSTILE = {
    "os.system": (calls("os", "system", "touch MARK"), "'os.system'"),
    "os.system in a ZIP file": (zipped(calls("posix", "system", "touch MARK")), "'posix.system'"),
    "eval": (zipped(calls("builtins", "eval", "open('MARK', 'w')")), "'builtins.eval'"),
    "getattr": (zipped(calls("builtins", "getattr", "x")), "'builtins.getattr'"),
    "subprocess": (zipped(calls("subprocess", "Popen", "touch MARK")), "'subprocess.Popen'"),
    "a chain of reduces": (zipped(pickle.dumps(Chain(50), 2)), "names '__builtin__.getattr'"),
    "protocol 4": (zipped(pickle.dumps(Chain(3), 4)), "names 'builtins.getattr'"),
    "a module of ours": (zipped(calls("kbert.files.atomic", "recover", "x")), "'kbert.files.atomic.recover'"),
    "dots in a name": (zipped(b"\x80\x04\x8c\x05torch\x8c\x0b_utils.load\x93."), "'torch._utils.load'"),
    "a type that is called": (zipped(calls("torch", "FloatStorage", "x")), "calls a value that is no function"),
    "INST": (zipped(b"\x80\x02(X\1\0\0\0xios\nsystem\n."), "instruction INST"),
    "OBJ": (zipped(b"\x80\x02(ccollections\nOrderedDict\no."), "instruction OBJ"),
    "NEWOBJ": (zipped(b"\x80\x02ccollections\nOrderedDict\n)\x81."), "instruction NEWOBJ"),
    "EXT1": (zipped(b"\x80\x02\x82\1."), "instruction EXT1"),
    "PERSID": (zipped(b"\x80\x02P0\n."), "instruction PERSID"),
    "BUILD of a tensor": (zipped(b"\x80\x02ctorch.nn.parameter\nParameter\n}b."), "sets the state"),
    "a module in a stream": (zipped(b"\x80\x02(X\6\0\0\0moduleNtQ."), "describes module"),
    "lists in lists": (zipped(b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b"."), "more than 20000 values open"),
    "marks in marks": (zipped(b"\x80\x02" + b"(" * 400_000 + b"t" * 400_000 + b"."), "more than 20000 values open"),
    "many lists": (zipped(b"\x80\x02]" + b"]a" * 400_000 + b"."), "more values than a file of its size"),
    "a memo bomb": (zipped(b"\x80\x02]" + b"q\1(" + b"h\1" * 300_000 + b"e."), "more than 20000 values open"),
    "doubled tuples": (zipped(b"\x80\x02)" + b"q\1h\1\x86" * 60 + b"."), "holds a tuple"),
    "strings of four bytes a character": (
        zipped(b"\x80\x02]" + (text("a" * 65_000 + "\U0001f600") + b"a") * 300 + b"."),
        "more values than a file of its size",
    ),
    "keys of one hash": (
        zipped(b"\x80\x02}(" + b"".join(number(n * ((1 << 61) - 1)) + b"N" for n in range(1, 9)) + b"u."),
        "with the key 2305843009213693951",
    ),
    "a long string": (zipped(b"\x80\x02X\xff\xff\xff\x7f"), "string of 2147483647 bytes"),
    "a long integer": (zipped(b"\x80\x02\x8b\xff\xff\xff\x7f"), "integer of 2147483647 bytes"),
    "a storage beyond the file": (
        zipped(tensor_of((1 << 40,), (1,), 1 << 40), data_0=bytes(16)),
        "lacks numbers of storage '0'",
    ),
    "a tensor beyond its storage": (zipped(tensor_of((5,), (1,), 4), data_0=bytes(16)), "goes beyond the 4 numbers"),
    "an offset before its storage": (zipped(tensor_of((1,), (1,), 4, -1), data_0=bytes(16)), "shape is no shape"),
    "a negative stride": (zipped(tensor_of((2,), (-1,), 4, 2), data_0=bytes(16)), "shape is no shape"),
    "numbers without end": (zipped(tensor_of((1 << 30, 1 << 30), (0, 0), 4), data_0=bytes(16)), "repeats its numbers"),
    "a path as a key": (zipped(tensor_of((4,), (1,), 4, key="/"), data_0=bytes(16)), "lacks numbers of storage '/'"),
    "a ZIP bomb": (bomb(), "more than 2 times its own size"),
    "big-endian numbers": (zipped(tensor_of((4,), (1,), 4), data_0=bytes(16), byteorder=b"big"), "big-endian"),
    "an optimizer": (zipped(b"\x80\x02}(X\5\0\0\0state}X\x0c\0\0\0param_groups]u."), "state of an optimizer"),
    "weights among other things": (
        zipped(
            b"\x80\x02}(" + text("epoch") + b"K\3" + text("model") + tensor_of((4,), (1,), 4)[2:-1] + b"u.", data_0=bytes(16)
        ),
        "holds its weights under 'model'",
    ),
    "a list of tensors": (zipped(b"\x80\x02]."), "holds a list"),
    "TorchScript": (zipped(tensor_of((4,), (1,), 4), data_0=bytes(16), **{"constants.pkl": b""}), "no list of weights"),
    "nothing": (b"", "is empty"),
    "a pointer of git": (b"version https://git-lfs.github.com/spec/v1\n", "no list of weights"),
    "an HTML page": (b"<!DOCTYPE html>" * 9, "no list of weights"),
    "a ZIP file of something else": (zipped(b"").replace(b"data.pkl", b"data.xml"), "no list of weights"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_nothing_runs(kind, tmp_path, monkeypatch):
    content, message = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as refused:
            torch_pickle.places_of(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400 + len(str(path))
    assert peak < max(2 * len(content), 8 << 20)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pytorch_model.bin"]  # no mark


def test_a_damaged_file_is_read_or_refused_with_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, chance, refused = tmp_path / "pytorch_model.bin", random.Random(22), 0
    originals = [(FILES / name).read_bytes() for name in LAYOUTS]
    for _ in range(250):
        content = bytearray(chance.choice(originals))
        start = max(0, content.find(b"data.pkl"))
        for _ in range(chance.choice((1, 1, 2, 9))):
            place = chance.randrange(start, min(start + 3000, len(content)))
            new = bytes(chance.choices(b"\x80\x02(.QRbcehqt}]X\xff\0", k=chance.randrange(3)))
            content[place : place + chance.randrange(3)] = new
        path.write_bytes(content)
        try:
            read_all(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 100
    assert [entry.name for entry in tmp_path.iterdir()] == ["pytorch_model.bin"]
