"""Accounts: passwords, tokens, sessions, verifications. The same on every database and object store."""

import random

import pytest
from sqlalchemy import text

from commentary_hub.errors import HubConflict, HubNotFound
from commentary_hub.manifest import Verification
from commentary_hub_server.rules.repositories import (
    Change,
)
from tests.server.catalogue.artefacts import artefact

pytestmark = pytest.mark.xdist_group("storage")


def test_a_verification_counts_where_the_account_that_it_names_committed_it(world):
    for name in ("bob", "eve"):
        world.directory.add_user(name)
    manifest, evidence, files = artefact("weights", "example_weights", "sklearn/digits", random.Random(0), rows=20)
    small = {name: data for name, data in files.items() if len(data) < 30_000}
    said = {"account": "bob", "date": "2026-11-24", "hardware": "CPU", "agrees": True}
    told = evidence.model_copy(update={"verifications": (Verification(tensor_digest=evidence.tensor_digest, **said),)})
    told = Change("evidence.json", data=told.to_json().encode())
    repo = world.repositories.create("dataset", "ada", "weights", private=False)

    def pushed(by, *changes):
        world.history.commit(repo, "main", changes, title="t", author=by)
        return world.catalogue.one("ada/weights").verified

    assert not pushed(
        "ada", *(Change(name, data=data) for name, data in small.items() if name != "evidence.json"), told
    )
    assert not pushed("eve", Change("evidence.json", data=files["evidence.json"]))
    assert not pushed("eve", told)
    assert not pushed("bob", Change("a.txt", data=b"x"))
    assert not pushed("ada", Change("evidence.json", data=files["evidence.json"]))
    assert pushed("bob", told)
    assert pushed("ada", Change("a.txt", data=b"y"))
    assert not pushed("bob", Change("commentary.json", data=manifest.to_json().encode() + b"\n"))


def test_a_new_password_and_signing_out_begin_another_epoch_of_sessions(world):
    epochs = [world.directory.session_epoch("Ada")]
    world.directory.set_password("ada", "long enough")
    epochs.append(world.directory.session_epoch("ada"))
    world.directory.end_sessions("ADA")
    epochs.append(world.directory.session_epoch("ada"))
    assert epochs == [0, 1, 2]
    assert world.directory.session_epoch("nobody") is None


def test_accounts_tokens_and_passwords(world):
    directory = world.directory
    directory.add_user("Grace", password="correct horse")
    directory.add_org("navy", member="Grace", role="read")
    assert directory.check_password("grace", "correct horse") == "Grace"
    assert directory.check_password("grace", "wrong horse") is None
    assert directory.check_password("nobody", "correct horse") is None
    secret = directory.create_token("grace", role="read", expires_at=4e9)
    profile = directory.by_token(secret)
    assert profile.reads == {"grace", "navy"}
    assert profile.writes == {"grace"}
    assert not profile.may_write("dataset/grace/x")
    assert profile.may_read("dataset/navy/x", private=True)
    with world.engine.connect() as connection:
        stored = " ".join(map(str, connection.execute(text("SELECT * FROM tokens")).all()))
        hashed = connection.execute(text("SELECT password FROM owners WHERE key = 'grace'")).scalar_one()
    assert secret not in stored
    assert hashed.startswith("$argon2id$")
    for bad in (directory.create_token("grace", expires_at=1.0), "hf_never_given"):
        with pytest.raises(PermissionError):
            directory.by_token(bad)
    directory.revoke_token("grace", directory.tokens("grace")[0].id)
    with pytest.raises(PermissionError):
        directory.by_token(secret)
    with pytest.raises(HubConflict):
        directory.add_org("GRACE")
    assert profile.orgs == (("navy", "", "read"),)


def test_whoever_leaves_is_let_in_no_more_and_what_they_pushed_stays(world):
    directory = world.directory
    directory.add_user("Grace", password="correct horse", is_admin=True)
    for org in ("navy", "lab"):
        directory.add_org(org, member="grace")
    kept = world.repositories.create("dataset", "Grace", "set", private=False)
    secret, epoch = directory.create_token("grace"), directory.session_epoch("grace")
    number = directory.by_token(secret).token_id
    directory.remove_member("NAVY", "GRACE")
    assert directory.by_token(secret).writes == {"grace", "lab"}
    for org, user, error in (("navy", "grace", "no member"), ("lab", "ada", "no member"), ("ada", "grace", "no org")):
        with pytest.raises(HubNotFound, match=error):
            directory.remove_member(org, user)
    directory.disable("GRACE")
    with pytest.raises(PermissionError):
        directory.by_token(secret)
    assert directory.by_token_id(number).user is None  # so every grant and every link ends as well
    assert directory.check_password("grace", "correct horse") is None
    assert directory.session_epoch("grace") == epoch + 1
    assert directory.members("lab") == []
    assert not directory.owner("grace").is_admin
    assert world.repositories.by_id(kept.id) == kept
    with pytest.raises(HubNotFound):
        directory.disable("lab")


def test_the_number_of_a_revoked_token_names_no_other(world):
    """A grant of the revoked one would be a grant of the other's user."""
    world.directory.add_user("root", is_admin=True)
    number = world.directory.by_token(world.directory.create_token("ada")).token_id
    world.directory.revoke_token("ada", number)
    assert world.directory.by_token(world.directory.create_token("root")).token_id != number
    assert world.directory.by_token_id(number).user is None
