"""What the tests of the rules do again and again."""

import hashlib

import pytest

from commentary_hub_server.rules.repositories import (
    Change,
    File,
    object_key,
    store_stream,
)

on_s3_too = pytest.mark.parametrize("settings", ["sqlite-local", "postgresql-local", "postgresql-s3"], indirect=True)


def commit(world, repo, files, parent=None, branch="main", **settings):
    changes = [Change(path, data=data) for path, data in files.items()]
    return world.history.commit(repo, branch, changes, title="t", author="ada", parent=parent, **settings)


def upload(world, repo, data):
    sha256 = hashlib.sha256(data).hexdigest()
    world.leases.hold([object_key(sha256)])
    store_stream(world.objects, [data], sha256, len(data))
    world.history.note_upload(repo, sha256, len(data))
    return sha256


def contents(world, repo, revision="main"):
    at = world.history.resolve(repo, revision)
    found = {}
    for path, node in world.history.files(at):
        if isinstance(node, File):
            opened = world.history.open(repo, at, path)
            found[path] = world.history.read(repo, opened, 0, node.size_bytes)
    return found
