"""Pretraining examples as files: Google's layout, the same after a stop, and what is said of files that do not fit."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import kbert
from kbert.pretraining.records import read_records, write_records
from tests.conftest import TINY, VOCABULARY
from tests.pretraining.test_pretraining import DOCUMENTS


@pytest.fixture
def folder(tokenizer, tmp_path):
    write_records(DOCUMENTS * 5, tokenizer, tmp_path / "records", shards=3, max_length=24, copies=2)
    return tmp_path / "records"


def test_files_have_googles_layout(folder, tokenizer):
    files = sorted(folder.glob("*.tfrecord.gz"))
    assert len(files) == 3
    seen = 0
    for serialized in tf.data.TFRecordDataset([str(file) for file in files], "GZIP").as_numpy_iterator():
        features = tf.train.Example.FromString(serialized).features.feature
        values = {name: np.array(f.int64_list.value or f.float_list.value) for name, f in features.items()}
        assert set(values) == {
            "input_ids",
            "input_mask",
            "segment_ids",
            "masked_lm_positions",
            "masked_lm_ids",
            "masked_lm_weights",
            "next_sentence_labels",
        }
        assert len(values["input_ids"]) == len(values["input_mask"]) == len(values["segment_ids"]) == 24
        real = values["masked_lm_weights"] == 1
        assert (np.diff(values["masked_lm_positions"][real]) > 0).all() and (values["masked_lm_positions"][~real] == 0).all()
        mask = values["input_mask"]
        assert (np.diff(mask) <= 0).all() and not values["input_ids"][mask == 0].any()  # padding comes last
        assert values["input_ids"][0] == tokenizer.cls_token_id and (values["input_ids"] == tokenizer.sep_token_id).sum() >= 2
        seen += 1
    assert seen > 20


def test_a_pretrainer_learns_from_them(folder, tokenizer):
    task = kbert.Pretrainer(kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24))
    task.compile(learning_rate=5e-3)
    data = read_records(folder, 8, tokenizer, max_length=24)
    with pytest.warns(UserWarning, match="does not say how many batches"):
        history = task.fit(data, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_a_stopped_run_goes_on_with_what_is_missing(folder, tokenizer):
    files = sorted(folder.glob("*.tfrecord.gz"))
    before = {file: file.read_bytes() for file in files}
    times = {file: file.stat().st_mtime_ns for file in files}
    files[1].unlink()
    done = []
    write_records(DOCUMENTS * 5, tokenizer, folder, shards=3, max_length=24, copies=2, progress=done.append)
    assert done == [files[1]] and files[0].stat().st_mtime_ns == times[files[0]]

    def examples(content, path):
        path.write_bytes(content)
        return list(tf.data.TFRecordDataset(str(path), "GZIP").as_numpy_iterator())

    assert examples(files[1].read_bytes(), folder / "a.x") == examples(before[files[1]], folder / "b.x")


def test_counted_records_know_their_length_and_go_on_after_a_crash(folder, tokenizer, tmp_path):
    import keras

    def train(**how):
        keras.utils.set_random_seed(3)
        task = kbert.Pretrainer(kbert.BertEncoder(kbert.BertConfig(**TINY)), kbert.TextPreprocessor(tokenizer, 24))
        data = read_records(folder, 8, tokenizer, count=True)
        assert int(data.cardinality()) > 4
        task.fit(data, epochs=3, verbose=0, **how)
        return task.get_weights()

    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_begin(self, batch, logs=None):
            if (self.epoch, batch) == (1, 2):
                raise KeyboardInterrupt

    whole = train()
    with pytest.raises(KeyboardInterrupt):
        train(resume=tmp_path / "state", resume_every=0, callbacks=[Crash()])
    for a, b in zip(whole, train(resume=tmp_path / "state")):
        np.testing.assert_array_equal(a, b)


def test_a_full_disk_is_named_and_what_was_finished_stays(tokenizer, tmp_path):
    """A limit on the size of files stands for the disk: the system says no to the same write."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        import kbert
        from kbert.pretraining import records
        from tests.conftest import VOCABULARY
        from tests.pretraining.test_pretraining import DOCUMENTS
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        records.os.cpu_count = lambda: 1  # one shard after the other
        full = lambda path: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY))
        try:
            records.write_records(DOCUMENTS * 40, kbert.WordPieceTokenizer(VOCABULARY), sys.argv[1], 2, 24, 4, progress=full)
        except OSError as error:
            print("said:", error)
        """
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "records"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert "said:" in done.stdout and "what was finished is kept" in done.stdout, done.stderr[-2000:]
    assert [file.name for file in (tmp_path / "records").glob("*.gz")] == ["examples-00000-of-00002.tfrecord.gz"]
    assert sum(1 for _ in (tmp_path / "records").iterdir()) == 2  # and about.json
    write_records(DOCUMENTS * 40, tokenizer, tmp_path / "records", 2, 24, 4)
    assert int(read_records(tmp_path / "records", 1, tokenizer, count=True).cardinality()) > 100


@pytest.mark.usefixtures("without_autograph")
def test_a_file_that_breaks_off_is_named_before_the_training(folder, tmp_path):
    file = sorted(folder.glob("*.gz"))[1]
    file.write_bytes(file.read_bytes()[:-40])
    for paths in (folder, file):
        with pytest.raises(ValueError, match="00001-of-00003.*not the file that was written"):
            read_records(paths)
    other = tmp_path / "elsewhere.gz"
    other.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="elsewhere.gz breaks off"):
        read_records(other, count=True)


def test_a_folder_that_is_not_whole_is_refused(folder, tokenizer, tmp_path):
    files = sorted(folder.glob("*.gz"))
    assert len(read_records(files[:2], 4).element_spec) == 2  # files that are named one by one are taken as they are
    extra = folder / "examples-00000-of-00007.tfrecord.gz"
    shutil.copy(files[0], extra)
    with pytest.raises(ValueError, match="1 files of another writing, such as examples-00000-of-00007"):
        read_records(folder)
    extra.unlink()
    content = files[0].read_bytes()
    shutil.copy(files[1], files[0])
    with pytest.raises(ValueError, match="00000-of-00003.* is not the file that was written"):
        read_records(folder)
    with pytest.raises(ValueError, match="is not the file that was written"):
        write_records(DOCUMENTS * 5, tokenizer, folder, shards=3, max_length=24, copies=2)
    files[0].write_bytes(content)
    files[2].unlink()
    with pytest.raises(ValueError, match="lacks 1 of its 3 files, such as examples-00002-of-00003"):
        read_records(folder)
    (folder / "about.json").unlink()  # as in a folder of Google's script
    with pytest.raises(ValueError, match="lacks 1 of its 3 files, such as examples-00002-of-00003"):
        read_records(folder)
    shutil.copy(files[0], extra)
    with pytest.raises(ValueError, match="several writings, of 00003 and of 00007 shards"):
        read_records(folder)


def test_a_shard_that_was_not_noted_is_read_or_written_anew(folder, tokenizer):
    about = json.loads((folder / "about.json").read_text())
    files = sorted(folder.glob("*.gz"))
    whole = dict(about["files"])
    assert sum(file["examples"] for file in whole.values()) == sum(1 for _ in read_records(folder, 1, count=True))
    (folder / "about.json").write_text(json.dumps({**about, "files": {files[0].name: whole[files[0].name]}}))
    with pytest.raises(ValueError, match="00001-of-00003.* was not finished"):
        read_records(folder)
    files[2].write_bytes(files[2].read_bytes()[:-40])
    done = []
    write_records(DOCUMENTS * 5, tokenizer, folder, shards=3, max_length=24, copies=2, progress=done.append)
    assert done == [files[2]]
    assert json.loads((folder / "about.json").read_text())["files"] == whole


def test_files_without_compression_are_read_too(folder, tmp_path):
    plain = tmp_path / "google.tfrecord"
    with tf.io.TFRecordWriter(str(plain)) as writer:
        for serialized in tf.data.TFRecordDataset([str(f) for f in folder.glob("*.gz")], "GZIP").as_numpy_iterator():
            writer.write(serialized)
    inputs, labels = next(iter(read_records(plain, 4, shuffle=False)))
    assert inputs["token_ids"].shape == (4, 24) and inputs["mask_positions"].shape == labels["mlm_logits"].shape
    hidden = np.take_along_axis(inputs["token_ids"].numpy(), inputs["mask_positions"].numpy(), 1)
    counted = labels["mlm_logits"].numpy() != -100
    assert counted.any() and ((hidden == 4) & counted).sum() >= 0.5 * counted.sum()


def test_files_that_do_not_fit_are_named(folder, tokenizer, tmp_path):
    other = kbert.WordPieceTokenizer(VOCABULARY[:-1])
    with pytest.raises(ValueError, match="another vocabulary"):
        read_records(folder, tokenizer=other)
    with pytest.raises(ValueError, match="another corpus, vocabulary or other settings"):
        write_records(DOCUMENTS * 5, other, folder, shards=3, max_length=24, copies=2)
    with pytest.raises(ValueError, match="24 positions, the model reads 16"):
        read_records(folder, max_length=16)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_records(tmp_path / "none.tfrecord")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no .tfrecord files"):
        read_records(tmp_path / "empty")
    (tmp_path / "cut.tfrecord").write_bytes(b"not a record at all, by no means")
    with pytest.raises(ValueError, match="could not be read as TFRecords"):
        read_records(tmp_path / "cut.tfrecord")
    with tf.io.TFRecordWriter(str(tmp_path / "other.tfrecord")) as writer:
        writer.write(tf.train.Example().SerializeToString())
    with pytest.raises(ValueError, match="has no examples with input_ids"):
        read_records(tmp_path / "other.tfrecord")
