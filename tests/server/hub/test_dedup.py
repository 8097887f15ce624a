"""The whole hub keeps what Xet saves: an edit costs what it changes, on the wire and on disk, from a fresh client."""

import os
import subprocess
import sys

from benchmarks.hub import Counter, stored_bytes
from tests.server.hub.running import running

UPLOAD = """
import sys
from huggingface_hub import HfApi
HfApi().upload_file(path_or_fileobj=sys.argv[1], path_in_repo="a.bin", repo_id=sys.argv[2], repo_type="dataset")
"""


def test_a_thousand_bytes_changed_cost_about_a_hundred_thousand(tmp_path):
    with running(tmp_path / "hub") as hub:
        token = hub.token("ada")
        for name in ("one", "two"):
            hub.world.repositories.create("dataset", "ada", name, private=name == "two")
        data = bytearray(os.urandom(64 << 20))
        path = tmp_path / "a.bin"
        costs = []
        for turn, repo in enumerate(("ada/one", "ada/one", "ada/two")):
            path.write_bytes(data)
            relay, before = Counter(hub.url), stored_bytes(tmp_path / "hub")
            home = tmp_path / f"home-{turn}"
            home.mkdir()
            environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_ENDPOINT": relay.url, "HF_TOKEN": token}
            subprocess.run(
                [sys.executable, "-c", UPLOAD, str(path), repo],
                env=environment, check=True, capture_output=True, timeout=200,
            )  # fmt: skip
            costs.append((relay.sent + relay.received, stored_bytes(tmp_path / "hub") - before))
            if turn == 0:
                data[30_000_000:30_001_000] = os.urandom(1000)
        assert costs[0][1] >= len(data)
        wire, disk = costs[1]
        assert wire < 500_000
        assert disk < 300_000
        assert costs[2][1] == 0  # another repository of the same owner stores nothing twice
        one = hub.world.repositories.get("dataset", "ada/two")
        opened = hub.world.history.open(one, hub.world.history.resolve(one, "main"), "a.bin")
        assert hub.world.history.read(one, opened, 29_999_000, 3000) == bytes(data[29_999_000:30_002_000])
