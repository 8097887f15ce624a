"""A small world to browse: realistic commentaries, held in memory behind the catalogue's doors."""

import functools
import hashlib
import math
import random
from dataclasses import replace

from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from commentary_hub_server.routes import catalogue as catalogue_routes
from commentary_hub_server.routes import pages
from commentary_hub_server.rules.catalogue import (
    STRANGER,
    Catalogue,
    Entry,
    Place,
    Revision,
    StoredFile,
    TokenLine,
    Viewer,
    describe,
)
from tests.server.catalogue.artefacts import artefact

DATASETS = ("sklearn/digits", "uoft-cs/cifar10", "ylecun/mnist", "fancyzhx/ag_news", "zalando/fashion_mnist")
OWNERS = ("ada", "grace", "emmy", "alan", "katherine", "noether-lab")
KINDS = ("example_weights", "example_weights", "label_blend", "attention_mask")


class MemoryShelf:
    """Repositories as a dictionary of commits, and what is known of each."""

    def __init__(self):
        self.commits, self.places = {}, {}

    def place(self, repo_id):
        return self.places.get(repo_id.lower())

    def commit(self, repo_id, files, title):
        history = self.commits.setdefault(repo_id.lower(), [])
        self.places.setdefault(repo_id.lower(), Place(repo_id, private=False))
        name = self.name_of(repo_id, len(history))
        history.append((Revision(name, title, repo_id.split("/")[0], 1.79e9 + 86400 * len(history)), files))
        return name

    @staticmethod
    def name_of(repo_id, number):
        return hashlib.sha1(f"{repo_id} {number}".encode()).hexdigest()

    def resolve(self, repo_id, revision):
        history = self.commits.get(repo_id.lower(), [])
        names = [commit.id for commit, _ in history]
        return (names[-1] if names and revision == "main" else None) or (revision if revision in names else None)

    def _files(self, repo_id, revision):
        return next(files for commit, files in self.commits[repo_id.lower()] if commit.id == revision)

    def files(self, repo_id, revision, *, limit, folder="", after=""):
        prefix = f"{folder}/" if folder else ""
        found = [path for path in self._files(repo_id, revision) if path.startswith(prefix)]
        later = sorted((path for path in found if path.split("/") > after.split("/")), key=lambda path: path.split("/"))
        return self.some(repo_id, revision, later[:limit])

    def some(self, repo_id, revision, paths):
        found = self._files(repo_id, revision)
        return [
            StoredFile(path, len(found[path]), hashlib.sha256(found[path]).hexdigest())
            for path in paths
            if path in found
        ]

    def changes(self, repo_id, before, after, *, limit):
        old, new = (
            {one.path: one for one in self.some(repo_id, at, self._files(repo_id, at))} for at in (before, after)
        )
        differ = [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]
        return [(old.get(path), new.get(path)) for path in differ[:limit]]

    def read(self, repo_id, revision, path, start, length):
        files = self._files(repo_id, revision)
        if path not in files:
            raise FileNotFoundError(path)
        return files[path][start : start + length]

    def history(self, repo_id, revision, limit):
        found = [commit for commit, _ in self.commits[repo_id.lower()]]
        return found[: [commit.id for commit in found].index(revision) + 1][::-1][:limit]


class MemoryAccounts:
    """Accounts whose password is their name twice."""

    def __init__(self, catalogue, shelf):
        self.catalogue, self.shelf, self.kept, self.deleted, self.epochs = catalogue, shelf, {}, [], {}

    def check_password(self, name, password):
        return name if name in OWNERS and password == name * 2 else None

    def viewer(self, name):
        return Viewer(name, frozenset({name})) if name in OWNERS else STRANGER

    def session_epoch(self, name):
        return self.epochs.get(name, 0) if name in OWNERS else None

    def end_sessions(self, name):
        self.epochs[name] = self.epochs.get(name, 0) + 1

    def tokens(self, name):
        return self.kept.get(name, [])

    def create_token(self, name, label, role):
        lines = self.kept.setdefault(name, [])
        lines.append(TokenLine(str(len(lines)), label, role, 1.79e9))
        return "hf_shown_once"

    def revoke_token(self, name, token_id):
        self.kept[name] = [line for line in self.tokens(name) if line.id != token_id]

    def may_administer(self, viewer, repo_id):
        return viewer.name is not None and repo_id.split("/")[0].lower() in viewer.namespaces

    def set_private(self, viewer, repo_id, *, private):
        assert self.may_administer(viewer, repo_id)
        self.catalogue.set_private(repo_id, private=private)
        places = self.shelf.places
        places[repo_id.lower()] = replace(places[repo_id.lower()], private=private)

    def delete(self, viewer, repo_id):
        assert self.may_administer(viewer, repo_id)
        self.deleted.append(repo_id)
        self.catalogue.remove(repo_id)
        del self.shelf.places[repo_id.lower()]


def world(count=24, *, url="sqlite://", seed=0):
    """(app, catalogue, shelf, accounts) with ``count`` commentaries, the last private; beyond 24 only catalogued."""
    options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if url == "sqlite://" else {}
    engine = create_engine(url, **options)
    catalogue, shelf, chance = Catalogue(engine), MemoryShelf(), random.Random(seed)
    catalogue.create()
    accounts = MemoryAccounts(catalogue, shelf)
    with engine.begin() as connection:
        for at in range(count):
            owner, dataset, kind = OWNERS[at % 6], DATASETS[at % 5], KINDS[at % 4]
            name = f"{dataset.split('/')[1]}-{kind.replace('_', '-')}-{at}"
            if at < 24:
                manifest, evidence, files = _one(at, name, kind, dataset, seed)
                shelf.commit(f"{owner}/{name}", {**files, "recipe.toml": b"steps = 50\n"}, "First try")
                revision = shelf.commit(f"{owner}/{name}", {**files, "recipe.toml": b"steps = 60\n"}, "Learn longer")
                shelf.places[f"{owner}/{name}"] = Place(f"{owner}/{name}", private=at == count - 1)
                card = files["README.md"].decode()
                entry = describe(
                    f"{owner}/{name}", revision, manifest, private=at == count - 1, updated_at=1.79e9 + at * 3600,
                    evidence=evidence, card=card,
                )  # fmt: skip
            else:
                gain = chance.gauss(0.03, 0.05)
                entry = replace(entry, repo_id=f"{owner}/{name}", name=name, dataset=dataset, gain=gain,
                                gain_low=gain - 0.02, gain_high=gain + 0.02, updated_at=1.79e9 + at)  # fmt: skip
            catalogue.put(entry, connection)
    _add_oddities(catalogue, shelf, chance)
    app = FastAPI()

    def identify(request):
        name = request.headers.get("x-test-user")
        return accounts.viewer(name)

    app.include_router(catalogue_routes.build_router(catalogue, shelf, identify))
    app.include_router(
        pages.build_router(catalogue, shelf, MemoryShelf(), accounts, "a secret for tests", secure=False)
    )
    return app, catalogue, shelf, accounts


@functools.cache
def _one(at, name, kind, dataset, seed):
    """The artefact of number ``at``; the fifth is made from another, the eighth is deprecated."""
    parents = [f"{OWNERS[0]}/digits-example-weights-0", "a spreadsheet of 2019"] if at == 5 else []
    reason = "The labels were corrected in 2026: use a newer one." if at == 8 else None
    chance = random.Random(1000 * seed + at)
    return artefact(name, kind, dataset, chance, measured=at % 7 != 6, parents=parents, deprecated=reason)


def _add_oddities(catalogue, shelf, chance):
    """A manifest from the future, a dataset with commentaries inside, a plain dataset: all private to katherine."""
    problem = "commentary.json has format version 7, this library reads up to 1: upgrade commentary-hub"
    shelf.commit("katherine/from-the-future", {"commentary.json": b"{}", "README.md": b"# Later\n"}, "Push")
    shelf.commit("katherine/plain", {"README.md": b"# Plain\n", "data/train.csv": b"a,b\n1,2\n"}, "Push")
    files = {"README.md": b"# Letters\n"}
    for kind in ("mixture_weights", "example_weights"):
        manifest, evidence, own = artefact(kind.replace("_", "-"), kind, "katherine/letters", chance, rows=80)
        files |= {f"commentaries/{manifest.name}/{path}": data for path, data in own.items()}
        entry = describe("katherine/letters", "", manifest, private=True, updated_at=1.79e9, evidence=evidence)
        catalogue.put(
            replace(entry, folder=f"commentaries/{manifest.name}", revision=MemoryShelf.name_of("katherine/letters", 0))
        )
    shelf.commit("katherine/letters", files, "Push")
    for name in ("from-the-future", "plain", "letters"):
        shelf.places[f"katherine/{name}"] = Place(
            f"katherine/{name}", private=True, problem=problem if name == "from-the-future" else None
        )


def sigmoid(value):
    """For expectations."""
    return 1 / (1 + math.exp(-value))


RANKED = ["ada/four", "ada/three", "ada/two", "ada/one"]
"""What `put_ranked` puts, in the order of a search for "robust"."""


def put_ranked(catalogue):
    """Add four entries that hold the word robust in their name (twice), dataset and card; returns one without it."""
    entry = Entry("ada/zero", "0" * 40, private=False, updated_at=1.79e9, name="zero", kind="label_blend",
                  dataset="some/digits", gain=0.0)  # fmt: skip
    for changes in (
        {"repo_id": "ada/one", "name": "one", "card": "robust " * 40, "gain": 0.9},
        {"repo_id": "ada/two", "name": "two", "dataset": "robust/digits"},
        {"repo_id": "ada/three", "name": "robustness", "card": "a long card " * 400, "gain": None},
        {"repo_id": "ada/four", "name": "four-robust", "gain": -0.2},
    ):
        catalogue.put(replace(entry, **changes))
    return entry
