"""`kbert push` against a stand-in hub on this machine: what is uploaded, what is refused, and each way to fail."""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest

import kbert

TOKEN = "hf_" + "secret" * 5


class Hub(http.server.BaseHTTPRequestHandler):
    """The few paths of a hub that an upload asks for; `server.files` are the committed ones, by branch and name."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.reply(404, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(401, {"error": "Invalid credentials"})
        if self.server.status:
            return self.reply(self.server.status, {"error": f"no, {TOKEN} may not"})
        if self.path == "/api/validate-yaml":
            return self.reply(200, {"errors": [], "warnings": []})
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.reply(200, {"url": f"http://{self.headers['Host']}/o/m", "id": "o/m"})
        if "/branch/" in self.path:
            return self.reply(200, {})
        if "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]]
            return self.reply(200, {"files": files})
        branch = self.path.split("/commit/")[1]
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.server.files[branch, entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return self.reply(
            200, {"commitUrl": f"http://{self.headers['Host']}/o/m/commit/1", "commitOid": "1" * 40, "success": True}
        )

    def reply(self, status, content):
        content = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.asked, server.created, server.status = {}, [], [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def push(server, tmp_path):
    """Runs the command in a process that takes the stand-in for the hub."""

    def run(*words, **environment):
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        command = [sys.executable, "-m", "kbert", "push", *map(str, words)]
        environment = {**os.environ, **settings, **environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert TOKEN not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files that save_to_preset writes for a classifier, by name."""
    from tests.conftest import TINY, VOCABULARY

    folder = tmp_path_factory.mktemp("task") / "mine"
    encoder = kbert.BertEncoder(kbert.BertConfig(**TINY))
    packer = kbert.TextPreprocessor(kbert.WordPieceTokenizer(VOCABULARY), 24)
    kbert.TextClassifier(encoder, packer, ["ham", "spam"]).save_to_preset(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(written, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_model_and_its_card_are_uploaded_and_foreign_files_stay(push, server, folder):
    (folder / "notes.txt").write_text("private")
    (folder / "figure.png").write_bytes(b"a picture")
    done = push(folder, "hf://o/m", "--private", "--include", "figure.png")
    assert done.returncode == 0, done.stderr
    assert server.created[0]["name"] == "m" and server.created[0]["organization"] == "o"
    assert server.created[0].get("private") or server.created[0].get("visibility") == "private"
    expected = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "notes.txt"}
    assert {name: content for (_, name), content in server.files.items()} == expected
    assert {branch for branch, _ in server.files} == {"main"}
    assert "left here" in done.stdout and "notes.txt" in done.stdout and "/o/m/commit/1" in done.stdout


def test_a_revision_is_a_branch(push, server, folder):
    assert push(folder, "hf://o/m", "--revision", "v1").returncode == 0
    assert {branch for branch, _ in server.files} == {"v1"} and any("/branch/v1" in path for path in server.asked)


@pytest.mark.parametrize(
    ("change", "place", "message"),
    [
        (lambda folder: (folder / "README.md").unlink(), "hf://o/m", "has no README.md, the card"),
        (lambda folder: (folder / "README.md").write_text("# no header\n"), "hf://o/m", "has no header of YAML"),
        (lambda folder: (folder / "model.safetensors").unlink(), "hf://o/m", "has no weights"),
        (lambda folder: [(folder / name).unlink() for name in ("vocab.txt", "tokenizer.json")], "hf://o/m", "vocab.txt"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"cut"), "hf://o/m", "is not a whole safetensors file"),
        (lambda folder: None, "o/m", "is written hf://owner/name, got 'o/m'"),
        (lambda folder: None, "hf://m", "names no owner"),
        (lambda folder: None, "hf://o/m@v1", "give the branch as --revision v1"),
    ],
)
def test_what_is_not_whole_is_refused_before_anything_is_sent(change, place, message, push, server, folder):
    change(folder)
    done = push(folder, place)
    assert done.returncode == 1 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "environment", "message"),
    [
        (0, {"HF_TOKEN": "hf_other"}, "the hub does not accept the token"),
        (0, {"HF_TOKEN": ""}, "there is no token to upload with"),
        (403, {}, "the token may not write there"),
        (404, {}, "the hub has no such owner or repository"),
        (500, {}, "the hub failed with status 500"),
        (0, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "the hub cannot be reached"),
        (0, {"HF_HUB_OFFLINE": "1"}, "the hub cannot be reached"),
    ],
)
def test_each_failure_is_one_line_without_the_token(status, environment, message, push, server, folder):
    server.status = status
    done = push(folder, "hf://o/m", **environment)
    assert done.returncode == 1 and f"kbert push: hf://o/m: {message}" in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1 and server.files == {}
