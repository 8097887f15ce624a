"""What the tests of the protocol ask of a hub again and again."""

import httpx2
from huggingface_hub import CommitOperationAdd

DATA = "dataset"


def http(api, method, path, **settings):
    headers = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    headers |= settings.pop("headers", {})
    return httpx2.request(method, f"{api.endpoint}{path}", headers=headers, timeout=30, **settings)


def commit(api, repo, files, **settings):
    operations = [CommitOperationAdd(path, data) for path, data in files.items()]
    return api.create_commit(repo, operations, commit_message="x", repo_type=DATA, **settings)
