"""`hf://` against a stand-in hub on this machine: download, cache, revisions, offline, and each way to fail."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

from kbert.checkpoints import hub
from kbert.checkpoints.catalogue import presets
from tests.checkpoints.test_torch_pickle import folder_of

COMMIT = {"main": "a" * 40, "v1": "b" * 40}


class Hub(http.server.BaseHTTPRequestHandler):
    """The few paths of a hub that a download asks for; `server.folder` holds the files of tiny/bert."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        self.server.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if "broken" in self.path:
            return self.reply(500, b"{}", body)
        if "gated" in self.path:
            return self.reply(403, b"{}", body, {"X-Error-Code": "GatedRepo"})
        if "tiny/bert" not in self.path:
            return self.reply(401, b"{}", body, {"X-Error-Code": "RepoNotFound"})
        place = 5 if parts[0] == "api" else 3  # api/models/tiny/bert/revision/main, tiny/bert/resolve/main/config.json
        revision = parts[place] if len(parts) > place else "main"
        commit = COMMIT.get(revision, revision if revision in COMMIT.values() else None)
        if commit is None:
            return self.reply(404, b"{}", body, {"X-Error-Code": "RevisionNotFound"})
        files = sorted(path for path in self.server.folder.iterdir() if path.is_file())
        if parts[0] == "api":
            if "tree" in parts:
                listing = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
                return self.reply(200, json.dumps(listing).encode(), body)
            listing = {"id": "tiny/bert", "sha": commit, "siblings": [{"rfilename": f.name} for f in files]}
            return self.reply(200, json.dumps(listing).encode(), body)
        content = (self.server.folder / parts[-1]).read_bytes()
        etag = hashlib.sha256(content).hexdigest()
        return self.reply(200, content, body, {"X-Repo-Commit": commit, "ETag": f'"{etag}"'})

    def reply(self, status, content, body, headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def server(tiny_folder):
    (tiny_folder / "pytorch_model.bin").write_bytes(b"never fetched")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.folder, server.asked = tiny_folder, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(server, tmp_path):
    """Runs code in a process that takes the stand-in for the hub: huggingface_hub reads its settings at import."""

    def run(code, *arguments, **environment):
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "cache"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        settings["HF_HUB_ETAG_TIMEOUT"] = "2"
        command = [sys.executable, "-c", f"import kbert\n{code}", *arguments]
        return subprocess.run(
            command, env={**os.environ, **settings, **environment}, capture_output=True, text=True, check=False, timeout=300
        )

    return run


LOAD = 'print(len(kbert.BertEncoder.from_preset("hf://tiny/bert").weights), kbert.WordPieceTokenizer.from_preset("hf://tiny/bert")("cat"))'


def test_download_cache_and_offline(ask, server):
    first = ask(LOAD)
    assert first.returncode == 0, first.stderr[-2000:]
    asked = " ".join(server.asked)
    assert "model.safetensors" in asked and "pytorch_model.bin" not in asked
    server.asked.clear()
    again = ask(LOAD, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and again.stdout == first.stdout, again.stderr[-2000:]
    assert server.asked == []


def test_a_repository_without_safetensors_is_read_from_its_pickle(ask, server):
    (server.folder / "model.safetensors").unlink()
    (server.folder / "tf_model.h5").write_bytes(b"never fetched")
    folder_of("bert_PreTraining.zip.bin", server.folder)
    code = 'print(len(kbert.BertEncoder.from_preset("hf://tiny/bert").weights))'
    first = ask(code)
    assert first.returncode == 0 and int(first.stdout) > 20, first.stderr[-2000:]
    assert "tf_model.h5" not in " ".join(server.asked)
    again = ask(code, HF_HUB_OFFLINE="1")
    assert again.returncode == 0 and again.stdout == first.stdout, again.stderr[-2000:]


def test_revisions(ask, server):
    done = ask('kbert.BertEncoder.from_preset("hf://tiny/bert@v1")')
    assert done.returncode == 0, done.stderr[-2000:]
    assert any("/v1" in path or COMMIT["v1"] in path for path in server.asked)


FAILURES = {
    "hf://tiny/bert@v9": "FileNotFoundError: hf://tiny/bert@v9: the repository has no revision 'v9'",
    "hf://tiny/none": "FileNotFoundError: hf://tiny/none: the hub has no such repository, or it is private",
    "hf://tiny/gated": "PermissionError: hf://tiny/gated: its owner asks you to agree",
    "hf://tiny/broken": "ConnectionError: hf://tiny/broken: the hub",
}
TRY = """
import sys
for place in sys.argv[1:]:
    try:
        kbert.BertEncoder.from_preset(place)
    except OSError as error:
        print(f"{type(error).__name__}: {error}")
"""


def test_each_failure_says_what_to_do(ask):
    done = ask(TRY, *FAILURES)
    for line, message in zip(done.stdout.splitlines(), FAILURES.values(), strict=True):
        assert message in line, done.stderr[-2000:]


@pytest.mark.parametrize("environment", [{"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}])
def test_a_hub_that_cannot_be_reached_is_said(ask, environment):
    done = ask('kbert.BertEncoder.from_preset("hf://tiny/bert")', **environment)
    assert done.returncode != 0
    message = "ConnectionError: hf://tiny/bert: the hub cannot be reached"
    assert message in done.stderr.splitlines()[-1], done.stderr[-2000:]


@pytest.mark.parametrize("place", ["hf://", "hf://a/b/c", "hf://a b", "hf://../etc", "hf://a/b@"])
def test_a_place_of_another_form_is_refused(place):
    with pytest.raises(ValueError, match="hf://"):
        hub.download(place)


def test_built_in_names_state_the_size_that_their_configuration_gives():
    sizes = {
        "bert-base-uncased": (30522, 12, 768), "bert-base-cased": (28996, 12, 768), "bert-large-uncased": (30522, 24, 1024),
        "bert-large-cased": (28996, 24, 1024), "bert-base-multilingual-cased": (119547, 12, 768),
    }  # fmt: skip
    distilled = {"distilbert-base-uncased": (30522, 6, 768), "distilbert-base-cased": (28996, 6, 768)}
    for name, (vocabulary, layers, width) in {**sizes, **distilled}.items():
        block = 12 * width * width + 13 * width
        tables = (vocabulary + 512 + (2 if name in sizes else 0) + 2) * width
        pooler = width * width + width if name in sizes else 0
        assert presets()[name].parameters == tables + layers * block + pooler, name
        assert presets()[name].source.endswith(name) and presets()[name].licence == "Apache-2.0"
