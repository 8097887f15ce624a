"""How long each page takes with 10,000 commentaries on the embedded default: median and worst of 20, with its size.

Claim: every page under 300 ms and under 150 kB, with what a browser loads for it (style, script, pictures) counted in.
Run: ``python benchmarks/pages.py [--json FILE] [--count N]``. The hub is the whole application over SQLite and files in
a folder, asked over the loopback, one request at a time. 24 commentaries are pushed with all their files, one of them a
table of 60,000 examples in 64 stages; the others are in the catalogue alone, as listing does not open files.
"""

import argparse
import json
import os
import random
import re
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "server")]

MAX_MS, MAX_BYTES = 300, 150_000


def fill(hub, count):
    """Push 24 commentaries, then list ``count`` in all; returns the id of the large table."""
    from commentary_hub_server.rules.catalogue import Query
    from commentary_hub_server.rules.repositories import Change
    from tests.server.catalogue.artefacts import artefact
    from tests.server.catalogue.seeding import DATASETS, KINDS, OWNERS

    world, chance = hub.world, random.Random(0)
    for owner in OWNERS:
        world.directory.add_user(owner, password=f"{owner}'s own secret")
    for at in range(24):
        owner, dataset, kind = OWNERS[at % 6], DATASETS[at % 5], KINDS[at % 4]
        name = f"pushed-{at}"
        shape = {"rows": 60_000, "stages": 64} if at == 0 else {}
        _, _, files = artefact(name, kind, dataset, chance, **shape)
        repository = world.repositories.create("dataset", owner, name, private=False)
        changes = [Change(path, data=data) for path, data in files.items()]
        world.history.commit(repository, "main", changes, title="Push", author=owner)
    entry = world.catalogue.search(Query(owner="ada", limit=1)).entries[0]
    with world.engine.begin() as connection:
        for at in range(24, count):
            owner, dataset, kind = OWNERS[at % 6], DATASETS[at % 5] + str(at % 40), KINDS[at % 4]
            gain, private = chance.gauss(0.03, 0.05), at % 11 == 0
            line = replace(
                entry, repo_id=f"{owner}/listed-{at}", name=f"listed-{at}", dataset=dataset, kind=kind, gain=gain,
                gain_low=gain - 0.02, gain_high=gain + 0.02, private=private, updated_at=1.79e9 + at,
            )  # fmt: skip
            world.catalogue.put(line, connection)
    return "ada/pushed-0"


def measure(session, base, path):
    """Median and worst in ms, the page's own bytes, and the bytes with all that it loads."""
    times = []
    for _ in range(20):
        began = time.perf_counter()
        answer = session.get(base + path)
        times.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
    loads = set(re.findall(r'(?:src|href)="(/(?:static|datasets/[^"]*/picture)[^"]*)"', answer.text))
    parts = sum(len(session.get(base + one.replace("&amp;", "&")).content) for one in loads)
    return {
        "path": path,
        "median_ms": round(statistics.median(times), 1),
        "worst_ms": round(max(times), 1),
        "first_ms": round(times[0], 1),
        "html_bytes": len(answer.content),
        "all_bytes": len(answer.content) + parts,
    }


def main():
    os.environ["HF_HUB_OFFLINE"] = "0"
    from huggingface_hub.utils import get_session

    from tests.server.hub.running import running

    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as hub:
        large = fill(hub, options.count)
        home = f"/datasets/{large}"
        paths = [
            "/", "/?search=cifar10", "/?search=e", "/?kind=example_weights&sort=name", "/?min_gain=0.05&verified=false",
            "/datasets", "/for/sklearn/digits", "/for/uoft-cs/cifar101", "/owners/ada", home, f"{home}?threshold=0.2",
            "/datasets/emmy/pushed-2", "/datasets/alan/pushed-3", f"{home}/tree/main", f"{home}/commits/main",
            f"{home}/blob/main/commentary.safetensors", f"{home}/blob/main/README.md",
            f"/compare?id={large}&id=alan/pushed-15", "/sign-in",
            "/api/commentaries", "/api/commentaries?search=digits&limit=100", "/api/commentaries/datasets",
            f"/api/commentaries/{large}", f"/api/commentaries/{large}/rows?count=1000",
        ]  # fmt: skip
        lines = [measure(get_session(), hub.url, path) for path in paths]
    for line in lines:
        print(*line.values(), sep="\t")
    over = [line["path"] for line in lines if line["median_ms"] > MAX_MS]
    heavy = [line["path"] for line in lines if line["all_bytes"] > MAX_BYTES and not line["path"].startswith("/api")]
    print(f"{len(over)} of {len(lines)} take more than {MAX_MS} ms {over}; {len(heavy)} weigh more than 150 kB {heavy}")
    first = next(line["first_ms"] for line in lines if line["path"] == home)
    print(f"the first view of the large table takes {first} ms; later ones find its sample in memory")
    if options.json:
        options.json.write_text(json.dumps({"count": options.count, "pages": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
