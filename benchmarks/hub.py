"""How fast the hub moves bytes and answers, beside what else could do it on the same machine, in one run.

Claims, each a ratio of two numbers of this run:

- download: at least 0.8 of nginx's sendfile where nginx does the bytes (X-Accel-Redirect), at least 1.0 of a bare
  uvicorn FileResponse where the hub does them;
- upload: LFS at least 0.5 of the speed of SHA-256 over the same bytes, Xet no slower than LFS for new bytes;
- an edited file costs what was edited, on the wire and on disk, from a client that has never seen it;
- lists: the 99th percentile with 100,000 repositories at most 3 times that with 1,000.

Run: ``python benchmarks/hub.py [--quick] [--json FILE]``; it needs curl, nginx, wrk and git, and names what is missing.
Contenders take turns, each turn begun by another; a claim is judged by the median over turns of the ratio within a
turn, shown with its quartiles. Clients, servers and nginx share the machine.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "server"))

from benchmarks.contenders.hub import (
    FILE_RESPONSE,
    NGINX,
    Counter,
    client_upload,
    curl,
    free_port,
    hub,
    lfs_link,
    process,
    send,
    world_at,
)

UPLOADS, DOWNLOADS, COMMITS = 7, 11, 3  # turns
CLAIM = ("claim", "ratio", "quartiles", "target", "holds")
BEHIND = "hub behind nginx (X-Accel-Redirect)"


def take_turns(contenders, turns):
    """{name: what it gave in each turn}, after one that only brings the files into memory."""
    found = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for turn in range(turns):
        for name in rotated(contenders, turn):
            found[name].append(contenders[name]())
    return found


def rotated(names, turn):
    """Who begins changes from turn to turn: nobody always follows the same one."""
    names = list(names)
    return names[turn % len(names) :] + names[: turn % len(names)]


def stored_bytes(folder):
    return sum(path.stat().st_size for path in (folder / "objects").rglob("*") if path.is_file())


def sha256_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_seconds(path):
    """Seconds of SHA-256, without a hub."""
    began = time.perf_counter()
    sha256_of(path)
    return time.perf_counter() - began


def copy_seconds(path):
    """Seconds until a copy is durable: the floor of every upload."""
    began = time.perf_counter()
    with path.open("rb") as source, tempfile.TemporaryFile(dir=path.parent) as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
        return time.perf_counter() - began


def fresh(folder, size):
    """A new file, and nothing left for the disk to write: nobody pays for what came before."""
    path = folder / "random.bin"
    with path.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    os.sync()
    return path


def uploads(folder, size, url, token):
    """{name: GB/s in each turn} of uploads of new bytes, and the SHA-256 of an object that is there then."""

    def one_put(path):
        return curl("-T", str(path), lfs_link(url, token, sha256_of(path), size)) / 1e9

    def by_client(name, **more):
        def run(path):
            return size / client_upload(url, token, path, f"{name}.bin", folder / "home", **more) / 1e9

        return run

    def rate(seconds):
        return lambda path: size / seconds(path) / 1e9

    contenders = {
        "sha256 of the file": rate(hash_seconds), "copy that is on disk": rate(copy_seconds),
        "LFS, one PUT (curl)": one_put, "LFS, huggingface_hub": by_client("LFS", HF_HUB_DISABLE_XET="1"),
        "Xet, huggingface_hub": by_client("Xet"),
    }  # fmt: skip
    found = {name: [] for name in contenders}
    for turn in range(UPLOADS):
        for name in rotated(contenders, turn):
            found[name].append(contenders[name](fresh(folder, size)))
    path = fresh(folder, size)
    one_put(path)
    return found, sha256_of(path)


def transfers(folder, size):
    """Download and upload of ``size`` bytes, {name: GB/s in each turn}."""
    data = folder / "data"
    world = world_at(data)
    world.directory.add_user("ada")
    token = world.directory.create_token("ada")
    world.repositories.create("dataset", "ada", "set", private=False)
    world.engine.dispose()
    with hub(data) as plain, hub(data, COMMENTARY_HUB_ACCEL_PREFIX="/objects") as behind:
        up, sha256 = uploads(folder, size, plain, token)
        line = {"path": "big.bin", "algo": "sha256", "oid": sha256, "size": size}
        body = b"\n".join(
            json.dumps(one).encode()
            for one in ({"key": "header", "value": {"summary": "x"}}, {"key": "lfsFile", "value": line})
        )
        send(plain, "/api/datasets/ada/set/commit/main", body, token, "application/x-ndjson")
        path = fresh(folder, size)
        port, other = free_port(), free_port()
        settings = folder / "nginx.conf"
        text = NGINX.format(folder=folder, port=port, plain=folder, objects=data / "objects", hub=behind)
        settings.write_text(text + "\n")
        nginx = f"http://127.0.0.1:{port}"
        with (
            process(["nginx", "-c", str(settings), "-p", str(folder), "-g", "user root;" if os.geteuid() == 0 else ""],
                    f"{nginx}/healthz"),
            process([sys.executable, "-c", FILE_RESPONSE, str(path), str(other)]),
        ):  # fmt: skip
            time.sleep(2)
            where = "/datasets/ada/set/resolve/main"
            down = take_turns(
                {
                    "nginx sendfile": lambda: curl(f"{nginx}/plain/random.bin") / 1e9,
                    BEHIND: lambda: curl(f"{nginx}{where}/big.bin") / 1e9,
                    "uvicorn FileResponse": lambda: curl(f"http://127.0.0.1:{other}/") / 1e9,
                    "hub, LFS file": lambda: curl(f"{plain}{where}/big.bin") / 1e9,
                    "hub, Xet file": lambda: curl(f"{plain}{where}/Xet.bin") / 1e9,
                },
                DOWNLOADS,
            )
    return down, up


def edited(folder, size):
    """Bytes on the wire and on disk when 1 kB of a file changes and a fresh client uploads it."""
    data = folder / "data"
    world = world_at(data)
    world.directory.add_user("ada")
    token = world.directory.create_token("ada")
    world.repositories.create("dataset", "ada", "set", private=False)
    world.engine.dispose()
    path, found = fresh(folder, size), {}
    with hub(data) as url:
        for name in ("new file", "1 kB of it changed"):
            relay, before = Counter(url), stored_bytes(data)
            client_upload(relay.url, token, path, "a.bin", folder / "home")
            found[name] = {"wire": relay.sent + relay.received, "disk": stored_bytes(data) - before}
            with path.open("r+b") as file:
                file.seek(size // 2)
                file.write(os.urandom(1000))
    return found


def small_files(folder, count):
    """Seconds for a commit of many small files, beside git."""
    data = folder / "data"
    world = world_at(data)
    world.directory.add_user("ada")
    token = world.directory.create_token("ada")
    world.repositories.create("dataset", "ada", "set", private=False)
    world.engine.dispose()
    turn, seconds = 0, {"hub": [], "git": []}
    with hub(data) as url:
        for turn in range(COMMITS):
            lines = [{"key": "header", "value": {"summary": "many"}}]
            for n in range(count):
                value = {"path": f"t{turn}/d{n // 100}/f{n}.txt", "content": f"{turn} {n} " * 100, "encoding": "utf-8"}
                lines.append({"key": "file", "value": value})
            body = "\n".join(map(json.dumps, lines)).encode()
            began = time.perf_counter()
            send(url, "/api/datasets/ada/set/commit/main", body, token, "application/x-ndjson")
            seconds["hub"].append(time.perf_counter() - began)
            seconds["git"].append(_git(folder / f"git{turn}", lines[1:]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _git(folder, lines):
    for line in lines:
        path = folder / line["value"]["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line["value"]["content"])
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    began = time.perf_counter()
    subprocess.run(["git", "add", "."], cwd=folder, check=True)
    subprocess.run(["git", *who, "commit", "-q", "-m", "x"], cwd=folder, check=True)
    return time.perf_counter() - began


def requests(folder, count, seconds):
    """{request: (per second, p50 ms, p99 ms)} with 32 clients on ``count`` repositories."""
    data = folder / f"data{count}"
    world = world_at(data)
    world.directory.add_user("ada")
    made = world.repositories.create("dataset", "ada", "set", private=False)
    from commentary_hub_server.rules.repositories import Change

    changes = [Change(f"d/{n}.txt", data=b"%d" % n) for n in range(50)]
    world.history.commit(made, "main", changes, title="t", author="ada")
    _fill(world, count)
    world.engine.dispose()
    paths = {
        "info": "/api/datasets/ada/set", "tree": "/api/datasets/ada/set/tree/main/d",
        "list": "/api/datasets?limit=20", "list by author": "/api/datasets?author=owner7&limit=20",
    }  # fmt: skip
    with hub(data, COMMENTARY_HUB_LOG_JSON="1") as url:
        found = {}
        for name, path in paths.items():
            subprocess.run(["wrk", "-t2", "-c32", "-d1s", f"{url}{path}"], capture_output=True, check=True)
            done = subprocess.run(
                ["wrk", "-t2", "-c32", f"-d{seconds}s", "--timeout", "20s", "--latency", f"{url}{path}"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            assert "Non-2xx" not in done, done
            found[name] = (float(re.search(r"Requests/sec:\s+([\d.]+)", done)[1]), _ms(done, 50), _ms(done, 99))
    return found


def _ms(text, percent):
    value, unit = re.search(rf"{percent}%\s+([\d.]+)(us|ms|s|m)\b", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


def _fill(world, count):
    """Repositories with one empty commit each, as creating them makes them."""
    from sqlalchemy import insert

    from commentary_hub_server.rules.repositories.tables import commits, refs, repositories

    numbers = range(10, 10 + count)
    with world.engine.begin() as connection:
        connection.execute(insert(repositories), [
            {"id": n, "key": f"dataset/owner{n % 100}/set-{n}", "kind": "dataset", "name": f"owner{n % 100}/set-{n}",
             "owner": f"owner{n % 100}", "private": n % 9 == 0, "created_at": 1e9 + n, "updated_at": 1e9 + n,
             "size_bytes": 0, "tags": "[]", "card": "{}"} for n in numbers])  # fmt: skip
        first = {"parent": None, "tree": "97d170e1550eee4afc0af065b78cda302a97674c", "title": "initial commit",
                 "message": "", "author": "x", "created_at": 1e9}  # fmt: skip
        connection.execute(insert(commits), [{"repository_id": n, "id": f"{n:040x}", **first} for n in numbers])
        connection.execute(
            insert(refs), [{"repository_id": n, "name": "refs/heads/main", "commit_id": f"{n:040x}"} for n in numbers]
        )


def claims(down, up, p99):
    """(claim, ratio, quartiles, target, holds): the median over turns of the ratio within a turn."""
    lines = [
        ("download behind nginx / nginx", paired(down, BEHIND, "nginx sendfile"), ">=", 0.8),
        ("download / FileResponse", paired(down, "hub, LFS file", "uvicorn FileResponse"), ">=", 1.0),
        ("LFS PUT / sha256", paired(up, "LFS, one PUT (curl)", "sha256 of the file"), ">=", 0.5),
        ("Xet / LFS, huggingface_hub", paired(up, "Xet, huggingface_hub", "LFS, huggingface_hub"), ">=", 1.0),
        ("p99 of list, most / fewest repositories", [p99[-1] / p99[0]], "<=", 3.0),
    ]
    judged = []
    for name, ratios, sign, aim in lines:
        ratio = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios) if len(ratios) > 1 else (ratio, ratio, ratio)
        judged.append((name, ratio, [low, high], f"{sign} {aim}", ratio >= aim if sign == ">=" else ratio <= aim))
    return judged


def paired(rates, name, other):
    return [one / two for one, two in zip(rates[name], rates[other], strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, for trying it")
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    asked = parser.parse_args()
    missing = [one for one in ("curl", "nginx", "wrk", "git") if shutil.which(one) is None]
    if missing:
        sys.exit(f"install {', '.join(missing)} first")
    size, small, counts, seconds = (
        (128 << 20, 1000, (1000, 10_000), 2) if asked.quick else (1 << 30, 10_000, (1000, 100_000), 5)
    )
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        Path(place).chmod(0o755)
        rooms = {name: Path(place, name) for name in ("transfers", "edited", "small", "requests")}
        for room in rooms.values():
            room.mkdir()
        down, up = transfers(rooms["transfers"], size)
        shutil.rmtree(rooms["transfers"])
        for title, rates in (("download", down), ("upload of new bytes", up)):
            turns = len(next(iter(rates.values())))
            print(f"\n{title}, {size >> 20} MiB, GB/s: median of {turns} turns, slowest, fastest")
            for name, values in rates.items():
                print(f"  {name:40} {statistics.median(values):6.2f} {min(values):6.2f} {max(values):6.2f}")
        change = edited(rooms["edited"], 64 << 20)
        print("\na file of 64 MiB by Xet, fresh clients: bytes on the wire, bytes on disk")
        for name, value in change.items():
            print(f"  {name:40} {value['wire']:>12,} {value['disk']:>12,}")
        many = small_files(rooms["small"], small)
        print(f"\none commit of {small:,} small files, seconds")
        for name, value in many.items():
            print(f"  {name:40} {value:6.2f}")
        answers = {count: requests(rooms["requests"], count, seconds) for count in counts}
        print("\nrequests per second, p50 and p99 in ms, 32 clients, one worker")
        for count, lines in answers.items():
            for name, (rate, middle, worst) in lines.items():
                print(f"  {count:>7,} repositories, {name:16} {rate:9.0f} {middle:9.1f} {worst:9.1f}")
        judged = claims(down, up, [answers[count]["list"][2] for count in counts])
        print("\nclaims")
        for name, ratio, (low, high), aim, holds in judged:
            print(f"  {name:42} {ratio:5.2f} [{low:.2f}, {high:.2f}] {aim:7} {'holds' if holds else 'MISSED'}")
    if asked.json:
        asked.json.write_text(
            json.dumps(
                {"size_bytes": size, "download_gb_s": down, "upload_gb_s": up, "edited_bytes": change,
                 "small_files_s": many, "requests": answers,
                 "claims": [dict(zip(CLAIM, one, strict=True)) for one in judged]},
                indent=1,
            )
        )  # fmt: skip


if __name__ == "__main__":
    main()
