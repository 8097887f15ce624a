"""How long each page takes with 10,000 commentaries on SQLite: median and worst of 20, in milliseconds, with its size.

Claim: every page under 300 ms and under 150 kB of HTML. Run: ``python benchmarks/pages.py [--json FILE]``.
The pages are asked through the ASGI test client in this process; files are held in memory.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "server")]


def main():
    from fastapi.testclient import TestClient

    from commentary_hub_server.rules.catalogue import Query
    from tests.server.catalogue.seeding import world

    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        app, catalogue, *_ = world(options.count, url=f"sqlite:///{folder}/catalogue.db")
        entry = catalogue.search(Query(limit=1)).entries[0]
        with_files = next(
            found
            for owner in ("ada", "grace", "emmy")
            for found in catalogue.search(Query(owner=owner, kind="example_weights", sort="updated", limit=100)).entries
            if found.updated_at < 2e9 and found.name.rpartition("-")[2] in {str(n) for n in range(24)}
        )
        home = f"/datasets/{with_files.repo_id}"
        paths = ["/", "/?search=cifar10", "/?kind=example_weights&sort=name", "/datasets", f"/for/{entry.dataset}",
                 "/owners/ada", home, f"{home}/tree/main", f"{home}/commits/main", "/sign-in",
                 "/api/commentaries", "/api/commentaries?search=digits", "/api/commentaries/datasets"]  # fmt: skip
        client, lines = TestClient(app), []
        for path in paths:
            times = []
            for _ in range(20):
                start = time.perf_counter()
                answer = client.get(path)
                times.append((time.perf_counter() - start) * 1000)
            assert answer.status_code == 200, (path, answer.status_code)
            median, worst = round(statistics.median(times), 1), round(max(times), 1)
            lines.append({"path": path, "median_ms": median, "worst_ms": worst, "size_bytes": len(answer.content)})
            print(*lines[-1].values(), sep="\t")
    if options.json:
        options.json.write_text(json.dumps({"count": options.count, "pages": lines}, indent=2) + "\n")


if __name__ == "__main__":
    main()
