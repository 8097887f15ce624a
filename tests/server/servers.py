"""Real servers for the tests: a throwaway PostgreSQL cluster, and OpenStack Swift speaking S3."""

import contextlib
import datetime as dt
import hashlib
import hmac
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"


@contextlib.contextmanager
def postgresql():
    """Yield the host part of a cluster's address (``?host=…``); skips where there are no binaries or no account."""
    found = shutil.which("initdb")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found is None and not debian:
        pytest.skip("no PostgreSQL server binaries (Debian: apt-get install postgresql)")
    folder = Path(found or debian[-1]).parent
    options = {}
    if os.geteuid() == 0:
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        data = Path(place, "data")
        data.mkdir()
        if options:
            os.chown(data, options["user"], options["group"])

        def run(*command):
            subprocess.run(
                command, check=True, cwd=data, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
            )

        run(folder / "initdb", "-D", data, "-U", "hub", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C.UTF-8")
        settings = f"-k {data} -c listen_addresses='' -c max_connections=200 -F"
        run(folder / "pg_ctl", "-D", data, "-w", "-o", settings, "-l", data / "log", "start")
        try:
            yield str(data)
        finally:
            run(folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


_PIPELINES = {
    "account": ("account-server", ""),
    "container": ("container-server", "[container-updater]\n[container-replicator]\n"),
    "object": ("object-server", "[object-updater]\n[object-replicator]\n"),
    "proxy": (
        "catch_errors cache s3api tempauth copy slo dlo proxy-server",
        "".join(f"[filter:{one}]\nuse = egg:swift#{one}\n" for one in ("catch_errors", "copy", "slo", "dlo"))
        + "[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:1\n"
        + f"[filter:s3api]\nuse = egg:swift#s3api\nlocation = {REGION}\n"
        + f"[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = {SECRET} .admin\n",
    ),
}
# One Swift server, with its configuration in a folder of ours.
_LAUNCH = """
import os, sys
import swift.common.utils
swift.common.utils.SWIFT_CONF_FILE = os.path.join(sys.argv[2], "swift.conf")
from swift.common.wsgi import run_wsgi
sys.exit(run_wsgi(os.path.join(sys.argv[2], sys.argv[1] + ".conf"), sys.argv[1] + "-server"))
"""


@contextlib.contextmanager
def s3(bucket="hub"):
    """Yield the AWS_… variables of a Swift with one bucket.

    Not ``rclone serve s3`` (1.75): it answers a Range with 200, which clients refuse, and ignores If-None-Match.
    """
    pytest.importorskip("swift", reason="the test group installs OpenStack Swift")
    with tempfile.TemporaryDirectory() as place:
        folder, ports = Path(place), {name: _free_port() for name in _PIPELINES}
        try:
            os.setxattr(folder, "user.test", b"1")
        except OSError:
            pytest.skip("Swift needs a temporary folder with extended attributes")
        _configure(folder, ports)
        servers = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", _LAUNCH, name, place],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )
            for name in _PIPELINES
        ]  # fmt: skip
        try:
            for port in ports.values():
                _wait_for(port)
            host = f"127.0.0.1:{ports['proxy']}"
            make_bucket(host, bucket)
            yield {
                "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION,
                "AWS_ENDPOINT": f"http://{host}", "AWS_ALLOW_HTTP": "true",
                "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            }  # fmt: skip
        finally:
            for server in servers:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(10)


def make_bucket(host, bucket):
    """``PUT /bucket``, signed by hand: the object library has no call for it."""
    now = dt.datetime.now(dt.UTC)
    day, moment, empty = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ"), hashlib.sha256(b"").hexdigest()
    names = "host;x-amz-content-sha256;x-amz-date"
    asked = f"PUT\n/{bucket}\n\nhost:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{moment}\n\n{names}\n{empty}"
    scope = f"{day}/{REGION}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
    key = f"AWS4{SECRET}".encode()
    for part in (day, REGION, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    mark = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers = {
        "x-amz-date": moment, "x-amz-content-sha256": empty,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={mark}",
    }  # fmt: skip
    request = urllib.request.Request(f"http://{host}/{bucket}", method="PUT", headers=headers)
    for _ in range(50):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=10) as reply:
            assert reply.status == 200
            return
        time.sleep(0.1)
    raise AssertionError("Swift made no bucket")


def _configure(folder, ports):
    ring = shutil.which("swift-ring-builder") or str(Path(sys.executable).with_name("swift-ring-builder"))
    (folder / "srv" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n"
        "[storage-policy:0]\nname = one\ndefault = yes\n"
    )
    for name, (pipeline, more) in _PIPELINES.items():
        if name != "proxy":
            builder = str(folder / f"{name}.builder")
            for step in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{ports[name]}/d1", "1"], ["rebalance"]):
                command = [sys.executable, "-W", "ignore", ring, builder, *step]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        (folder / f"{name}.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[name]}\nswift_dir = {folder}\nworkers = 0\n"
            f"devices = {folder / 'srv'}\nmount_check = false\nuser = {pwd.getpwuid(os.getuid()).pw_name}\n"
            f"[pipeline:main]\npipeline = {pipeline}\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\naccount_autocreate = true\n{more}"
        )


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(port):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")
