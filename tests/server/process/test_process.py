"""The hub as a process: its first start, its workers, its end, and what survives a kill."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from typer.testing import CliRunner

from commentary_hub.cli._main import build_app
from commentary_hub_server.app import open_world
from commentary_hub_server.settings import Settings
from commentary_hub_server.upkeep import check

RUN = [sys.executable, "-c", "from commentary_hub.cli import main; main()"]


def command(*arguments):
    """A command of the hub beside the running process (in this one: a dozen interpreters would only be slower)."""
    done = CliRunner().invoke(build_app(), arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@contextlib.contextmanager
def serving(folder, *options, **variables):
    process = subprocess.Popen(
        [*RUN, "serve", "--port", "0", "--data-dir", str(folder), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | variables,
    )  # fmt: skip
    said, drained = [], threading.Thread(target=lambda: process.err.extend(process.stderr), daemon=True)
    process.err = []
    drained.start()
    try:
        while not said or "Commentary Hub on" not in said[-1]:
            line = process.stdout.readline()
            assert line, "".join(process.err)
            said.append(line)
        process.url = re.search(r"http://\S+", said[-1])[0].replace("localhost", "127.0.0.1")
        process.said = "".join(said)
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{process.url}/readyz", timeout=5):
                break
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(60)
        drained.join(10)
        process.stdout.close()
        process.stderr.close()


def token_of(process):
    return re.search(r"hf_\S+", process.said)[0]


def test_the_first_start_prints_an_administrator_once_and_stops_at_sigterm(tmp_path):
    with serving(tmp_path) as hub:
        token = token_of(hub)
        assert HfApi(endpoint=hub.url, token=token).whoami()["name"] == "admin"
        hub.terminate()
        assert hub.wait(30) in {0, -signal.SIGTERM}
    with serving(tmp_path, COMMENTARY_HUB_LOG_JSON="1") as hub:
        assert "hf_" not in hub.said
        HfApi(endpoint=hub.url, token=token).whoami()
    lines = [json.loads(line) for line in hub.err if line.startswith("{")]
    seen = next(line for line in lines if line["path"] == "/api/whoami-v2")
    assert seen["status"] == 200
    assert seen["id"]
    assert token not in "".join(hub.err)


def test_an_upload_that_runs_when_the_hub_is_stopped_is_finished(tmp_path):
    world = open_world(Settings(data_dir=tmp_path))
    world.directory.add_user("ada")
    token = world.directory.create_token("ada")
    world.repositories.create("dataset", "ada", "set", private=False)
    world.engine.dispose()
    data = os.urandom(8 << 20)
    sha256 = hashlib.sha256(data).hexdigest()
    with serving(tmp_path) as hub:
        body = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": sha256, "size": len(data)}]}
        request = urllib.request.Request(
            f"{hub.url}/datasets/ada/set.git/info/lfs/objects/batch",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            href = json.load(reply)["objects"][0]["actions"]["upload"]["href"]
        connection = http.client.HTTPConnection(hub.url.removeprefix("http://"), timeout=60)
        connection.putrequest("PUT", href.removeprefix(hub.url))
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders()
        connection.send(data[: 4 << 20])
        hub.terminate()
        time.sleep(1)
        with pytest.raises(urllib.error.URLError):  # nobody new is let in
            urllib.request.urlopen(f"{hub.url}/healthz", timeout=5)
        connection.send(data[4 << 20 :])
        assert connection.getresponse().status == 200
        connection.close()
        assert hub.wait(30) in {0, -signal.SIGTERM}
    world = open_world(Settings(data_dir=tmp_path))
    assert world.history.holds(world.repositories.get("dataset", "ada/set"), sha256) == len(data)
    assert check(world).problems == []
    world.engine.dispose()


def test_what_was_acknowledged_survives_a_kill(tmp_path):
    acknowledged = []
    with serving(tmp_path) as hub:
        api = HfApi(endpoint=hub.url, token=token_of(hub))
        api.create_repo("admin/set", repo_type="dataset")

        def work(worker):
            for n in range(1000):
                path = f"{worker}/{n}.txt"
                try:
                    api.create_commit(
                        "admin/set", [CommitOperationAdd(path, b"%d %d" % (worker, n))],
                        commit_message="x", repo_type="dataset",
                    )  # fmt: skip
                except Exception:  # noqa: BLE001 - whatever a client says when its hub is gone
                    return
                acknowledged.append(path)

        with ThreadPoolExecutor(3) as pool:
            for worker in range(3):
                pool.submit(work, worker)
            while len(acknowledged) < 12:
                time.sleep(0.05)
            hub.kill()
            hub.wait(10)
    with serving(tmp_path) as hub:
        found = HfApi(endpoint=hub.url, token=False).list_repo_files("admin/set", repo_type="dataset")
    assert set(acknowledged) <= set(found)
    assert len(found) <= len(acknowledged) + 3  # at most those whose answer the kill cut off
    world = open_world(Settings(data_dir=tmp_path))
    assert check(world).problems == []
    world.engine.dispose()


def test_any_worker_serves_anybody(tmp_path):
    with serving(tmp_path, "--workers", "2") as hub:
        api = HfApi(endpoint=hub.url, token=token_of(hub))
        api.create_repo("admin/set", repo_type="dataset")
        big = os.urandom(2 << 20)
        for n in range(4):
            operations = [CommitOperationAdd(f"{n}.bin", big + bytes([n])), CommitOperationAdd(f"{n}.txt", b"x")]
            api.create_commit("admin/set", operations, commit_message="x", repo_type="dataset")
        assert len(api.list_repo_files("admin/set", repo_type="dataset")) == 8
        counts = []
        for _ in range(6):
            with urllib.request.urlopen(f"{hub.url}/metrics", timeout=10) as reply:
                text = reply.read().decode()
            counts.append(sum(float(line.split()[-1]) for line in text.splitlines() if "requests_total{" in line))
        assert counts == sorted(counts)  # whichever worker answers, it tells what all counted
        assert counts[0] > 20
        children = len(_children(hub.pid))
        hub.terminate()
        hub.wait(60)
    assert children >= 2


def _children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_administration_while_it_runs(tmp_path):
    with serving(tmp_path) as hub:
        at = ("--data-dir", str(tmp_path))
        command("user", "add", "ada", "--token", "hf_ada_secret", *at)
        command("org", "add", "lab", "--member", "ada", "--role", "read", *at)
        api = HfApi(endpoint=hub.url, token="hf_ada_secret")
        assert [(org["name"], org["roleInOrg"]) for org in api.whoami()["orgs"]] == [("lab", "read")]
        assert [one["name"] for one in json.loads(command("user", "list", "--json", *at))["owners"]] == [
            "ada", "admin", "lab",
        ]  # fmt: skip
        command("org", "remove", "lab", "ada", *at)
        assert api.whoami()["orgs"] == []
        command("user", "quota", "ada", "1000", *at)
        api.create_repo("ada/set", repo_type="dataset")
        with pytest.raises(Exception, match="1,000 bytes allowed"):
            api.upload_file(path_or_fileobj=b"x" * 2000, path_in_repo="a.txt", repo_id="ada/set", repo_type="dataset")
        (token,) = json.loads(command("token", "list", "ada", "--json", *at))["tokens"]
        command("token", "revoke", "ada", str(token["id"]), *at)
        with pytest.raises(Exception, match="Invalid user token"):
            api.whoami()
        backup = tmp_path.parent / f"{tmp_path.name}-backup"
        admin = HfApi(endpoint=hub.url, token=token_of(hub))
        admin.create_repo("admin/kept", repo_type="dataset")
        admin.upload_file(
            path_or_fileobj=os.urandom(500_000), path_in_repo="a.bin", repo_id="admin/kept", repo_type="dataset"
        )
        command("backup", str(backup), *at)
        admin.delete_repo("admin/kept", repo_type="dataset")
        command("gc", "--older-than", "0", *at)
        assert "0 problems" in command("fsck", *at)
    assert "0 problems" in command("fsck", "--data-dir", str(backup))
    with serving(backup) as restored:
        assert HfApi(endpoint=restored.url, token=False).list_repo_files("admin/kept", repo_type="dataset") == ["a.bin"]
