"""Forms of our own only, sessions, throttling, no open redirects, everything escaped, private as missing."""

import dataclasses
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from commentary_hub_server.app import open_world
from commentary_hub_server.rules.membership import Attempts
from commentary_hub_server.settings import Settings
from tests.server.catalogue.seeding import OWNERS, world
from tests.server.pages.test_pages import signed_in

SECRET = "noether-lab/ag_news-attention-mask-23"
PATHS = (
    "/datasets/{}", "/datasets/{}/tree/main", "/datasets/{}/commits/main", "/datasets/{}/blob/main/commentary.json",
    "/datasets/{}/picture/main/plots/overlay-0.png", "/datasets/{}/difference?before=main&after=main",
    "/datasets/{}/settings", "/datasets/{}/commentaries/x", "/api/commentaries/{}", "/api/commentaries/{}/rows",
)  # fmt: skip


@pytest.fixture
def made():
    return world(24)


def token_of(client, path="/sign-in"):
    return re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)[1]


@pytest.mark.parametrize("name", [None, "ada"])
def test_a_private_page_answers_others_exactly_as_a_missing_one(made, name):
    app, _, shelf, _ = made
    client = TestClient(app) if name is None else signed_in(app, name)
    assert SECRET in shelf.places
    for path in PATHS:
        hidden, missing = client.get(path.format(SECRET)), client.get(path.format("noether-lab/never-made"))
        assert hidden.status_code == missing.status_code == 404, path
        assert hidden.content == missing.content, path
        assert hidden.headers == missing.headers, path
    owner = signed_in(app, "noether-lab")
    for path in PATHS[:7]:
        assert owner.get(path.format(SECRET)).status_code == 200, path
    assert "noether-lab" in client.get("/owners/noether-lab").text
    assert SECRET not in client.get("/owners/noether-lab").text
    for form in ("private", "delete"):
        data = {"csrf": "x", "private": "no", "confirm": SECRET}
        answers = [client.post(f"/datasets/{one}/settings/{form}", data=data) for one in (SECRET, "noether-lab/no")]
        assert answers[0].content == answers[1].content


def test_forms_from_elsewhere_change_nothing(made):
    app, catalogue, _, accounts = made
    stranger, ada = TestClient(app), signed_in(app, "ada")
    repo = "ada/digits-example-weights-0"
    foreign = token_of(stranger)
    posts = {
        "/sign-in": {"name": "ada", "password": "adaada"},
        "/sign-out": {},
        "/tokens": {"label": "x", "role": "write"},
        "/tokens/revoke": {"token": "0"},
        f"/datasets/{repo}/settings/private": {"private": "yes"},
        f"/datasets/{repo}/settings/delete": {"confirm": repo},
    }
    for path, data in posts.items():
        for token in ("", "x", "é", foreign):
            assert ada.post(path, data={**data, "csrf": token}).status_code == 403, path
        assert ada.post(path, data=data).status_code == 403, path
    assert accounts.deleted == []
    assert accounts.tokens("ada") == []
    assert not catalogue.one(repo).private
    assert ada.get("/tokens").status_code == 200


def test_a_token_of_a_form_dies_with_its_session(made):
    app = made[0]
    client = signed_in(app, "ada")
    old = token_of(client, "/tokens")
    client.post("/sign-out", data={"csrf": old})
    assert client.get("/tokens").status_code == 303
    again = signed_in(app, "ada")
    assert token_of(again, "/tokens") != old
    assert again.post("/tokens", data={"csrf": old, "label": "x", "role": "read"}).status_code == 403


def test_signing_out_ends_the_session_wherever_its_cookie_was_copied_to(made):
    client = signed_in(made[0], "ada")
    copied = {"commentary_hub_session": client.cookies["commentary_hub_session"]}
    thief = TestClient(made[0], cookies=copied, follow_redirects=False)
    assert thief.get("/tokens").status_code == 200
    client.post("/sign-out", data={"csrf": token_of(client, "/tokens")})
    assert thief.get("/tokens").status_code == 303
    assert signed_in(made[0], "ada").get("/tokens").status_code == 200


def test_session_cookies_are_not_for_scripts_or_other_sites_and_cannot_be_forged(made):
    app = made[0]
    client = TestClient(app)
    cookie = client.get("/sign-in").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    value = client.cookies["commentary_hub_session"]
    for forged in ("x", value[:-1] + ("a" if value[-1] != "a" else "b"), value.replace(".", "", 1), ""):
        other = TestClient(app, cookies={"commentary_hub_session": forged}, follow_redirects=False)
        assert other.get("/tokens").status_code == 303


def test_pages_without_a_form_set_no_cookie(made):
    client = TestClient(made[0])
    for path in ("/", "/datasets", "/datasets/ada/digits-example-weights-0", "/nothing", "/static/site.css"):
        assert "set-cookie" not in client.get(path, headers={"accept": "text/html"}).headers, path


def test_guessing_passwords_is_slowed_and_nobody_else_is_locked_out(made):
    app = made[0]
    client = TestClient(app, follow_redirects=False)
    token = token_of(client)
    for _ in range(5):
        answer = client.post("/sign-in", data={"csrf": token, "name": "ada", "password": "wrong"})
        assert (answer.status_code, "wrong" in answer.text) == (401, True)
    for password in ("wrong", "adaada"):
        answer = client.post("/sign-in", data={"csrf": token, "name": "Ada ", "password": password})
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 300
    assert client.post("/sign-in", data={"csrf": token, "name": "grace", "password": "gracegrace"}).status_code == 303


def test_of_guesses_at_once_none_is_overlooked(made, monkeypatch):
    app, *_, accounts = made
    tried = []
    monkeypatch.setattr(accounts, "check_password", lambda *_: tried.append(1) or time.sleep(0.3))
    client = TestClient(app)
    token = token_of(client)
    form = {"csrf": token, "name": "ada", "password": "wrong"}
    with ThreadPoolExecutor(15) as pool:
        codes = [one.status_code for one in pool.map(lambda _: client.post("/sign-in", data=form), range(15))]
    assert len(tried) == codes.count(401) == 5
    assert codes.count(429) == 10


def test_no_more_than_four_passwords_are_hashed_at_once(tmp_path, monkeypatch):
    world = open_world(Settings(data_dir=tmp_path))
    running, most = [], []

    def verify(*_):
        running.append(1)
        most.append(len(running))
        time.sleep(0.05)
        running.pop()

    monkeypatch.setattr(world.directory, "_passwords", SimpleNamespace(verify=verify))
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: world.directory.check_password("nobody", "x"), range(12)))
    assert max(most) == 4
    world.engine.dispose()


def test_attempts_are_forgotten_after_the_window_and_limited_by_address_and_name():
    now = [0.0]
    attempts = Attempts(both=2, address=3, name=4, clock=lambda: now[0])
    for _ in range(2):
        attempts.failed("ada", "one")
    assert attempts.wait_s("ADA", "one") == 300
    assert attempts.wait_s("grace", "one") == 0
    attempts.failed("grace", "one")
    assert attempts.wait_s("emmy", "one") == 300
    assert attempts.wait_s("ada", "two") == 0
    attempts.failed("ada", "two")
    attempts.failed("ada", "three")
    assert attempts.wait_s("ada", "four") == 300
    now[0] = 301.0
    assert attempts.wait_s("ada", "one") == attempts.wait_s("emmy", "one") == 0
    attempts.failed("ada", "one")
    attempts.failed("ada", "one")
    attempts.succeeded("ada", "one")
    assert attempts.wait_s("ada", "one") == 0


@pytest.mark.parametrize(
    "to", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil.example", "/\n/evil.example",
           "javascript:alert(1)", "evil.example", ""],
)  # fmt: skip
def test_signing_in_never_leads_elsewhere(made, to):
    client = TestClient(made[0], follow_redirects=False)
    data = {"csrf": token_of(client), "name": "ada", "password": "adaada", "to": to}
    assert client.post("/sign-in", data=data).headers["location"] == "/"
    assert 'name="to" value="/"' in client.get("/sign-in", params={"to": to}).text


def test_signing_in_leads_back_to_where_it_was_asked_for(made):
    client = TestClient(made[0], follow_redirects=False)
    assert client.get("/tokens").headers["location"] == "/sign-in?to=/tokens"
    token = token_of(client, "/sign-in?to=/tokens")
    data = {"csrf": token, "name": "ada", "password": "adaada", "to": "/tokens"}
    assert client.post("/sign-in", data=data).headers["location"] == "/tokens"


def test_every_page_has_a_policy_without_inline_script_or_style(made):
    app = made[0]
    client = signed_in(app, "katherine")
    home = "/datasets/katherine/cifar10-example-weights-16"
    ends = ("", "/tree/main", "/commits/main", "/blob/main/README.md", "/settings")
    others = ("/", "/datasets", "/for/uoft-cs/cifar10", "/compare", "/owners/katherine", "/tokens", "/nothing/at/all")
    for path in (*(home + end for end in ends), *others):
        answer = client.get(path, headers={"accept": "text/html"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert "http" not in policy, path
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert not re.search(r"<[^>]*\s(?:style|on[a-z]+)=", answer.text), path
        assert not re.search(r"<script(?![^>]*\bsrc=\"/static/)", answer.text), path
        assert "<style" not in answer.text, path


def test_raw_files_and_pictures_are_never_run(made):
    app, _, shelf, _ = made
    repo = "ada/digits-example-weights-0"
    files = shelf.commits[repo][-1][1]
    files["plots/evil.png"] = b"<html><script>alert(1)</script>"
    files["plots/evil.webp"] = b"RIFF\0\0\0\0WAVE<script>alert(1)</script>"
    files["plots/good.webp"] = b"RIFF\n\0\0\0WEBPVP8L"
    files["plots/evil.svg"] = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    files["page.html"] = b"<script>alert(1)</script>"
    client = TestClient(app)
    assert client.get(f"/datasets/{repo}/picture/main/plots/evil.png").status_code == 404
    assert client.get(f"/datasets/{repo}/picture/main/plots/evil.webp").status_code == 404
    assert client.get(f"/datasets/{repo}/picture/main/plots/evil.svg").status_code == 404
    assert client.get(f"/datasets/{repo}/picture/main/plots/good.webp").headers["content-type"] == "image/webp"
    assert "<script>alert" not in client.get(f"/datasets/{repo}/blob/main/page.html").text
    picture = client.get(f"/datasets/{repo}/picture/main/plots/samples.png")
    assert picture.headers["content-type"] == "image/png"
    assert "sandbox" in picture.headers["content-security-policy"]


def test_a_large_picture_is_read_piece_by_piece(made, monkeypatch):
    app, _, shelf, _ = made
    data = b"\x89PNG\r\n\x1a\n" + os.urandom(5 << 19)
    shelf.commits["ada/digits-example-weights-0"][-1][1]["plots/large.png"] = data
    lengths, read = [], shelf.read
    monkeypatch.setattr(shelf, "read", lambda *asked: lengths.append(asked[-1]) or read(*asked))
    picture = TestClient(app).get("/datasets/ada/digits-example-weights-0/picture/main/plots/large.png")
    assert picture.content == data
    assert (picture.headers["content-length"], picture.headers["content-type"]) == (str(len(data)), "image/png")
    assert lengths == [1 << 20] * 3


def test_what_strangers_write_is_escaped_everywhere(made):
    app, catalogue, shelf, accounts = made
    bad = "\"><script>alert(1)</script>'{{7*7}}"
    repo = "ada/digits-example-weights-0"
    entry = catalogue.one(repo)
    catalogue.put(
        dataclasses.replace(
            entry, description=bad, dataset=bad, method=bad, licence=bad, students=(bad,), parents=(bad,), kind="x"
        )
    )
    files = shelf.commits[repo][-1][1]
    files[f"{bad.replace('/', '')}.txt"] = bad.encode()
    files["commentary.json"] = files["commentary.json"].replace(b"wrong labels", b"<script>alert(1)</script>")
    revision = shelf.commits[repo][-1][0]
    shelf.commits[repo][-1] = (dataclasses.replace(revision, title=bad, author=bad), files)
    accounts.create_token("ada", bad, "read")
    client = signed_in(app, "ada")
    home = f"/datasets/{repo}"
    paths = [
        "/", f"/?search={bad}&kind={bad}&owner={bad}", "/datasets", f"/for/{bad}", "/owners/ada", home, "/tokens",
        f"{home}/tree/main", f"{home}/commits/main", f"/owners/{bad}", f"{home}/settings",
        f"/compare?id={repo}&id=ada/mnist-example-weights-12",
    ]  # fmt: skip
    for path in paths:
        answer = client.get(path)
        assert "<script>alert" not in answer.text, path
        assert "49" not in re.findall(r"'(\d+)", answer.text), path
    wrong = client.post("/sign-in", data={"csrf": token_of(client, "/tokens"), "name": bad, "password": "x"})
    assert "<script>alert" not in wrong.text


def test_deletion_asks_for_the_whole_name(made):
    app, catalogue, _, accounts = made
    repo = "ada/digits-example-weights-0"
    client = signed_in(app, "ada")
    token = token_of(client, f"/datasets/{repo}/settings")
    for typed in ("", "ada", "digits-example-weights-0", repo.upper()):
        answer = client.post(f"/datasets/{repo}/settings/delete", data={"csrf": token, "confirm": typed})
        assert answer.status_code == 400
    assert accounts.deleted == []
    assert client.post(f"/datasets/{repo}/settings/delete", data={"csrf": token, "confirm": repo}).status_code == 303
    assert accounts.deleted == [repo]
    assert catalogue.one(repo) is None
    assert client.get(f"/datasets/{repo}").status_code == 404


def test_only_owners_settle_a_repository(made):
    app = made[0]
    repo = "ada/digits-example-weights-0"
    for name in OWNERS[1:3]:
        client = signed_in(app, name)
        token = token_of(client, "/tokens")
        assert client.get(f"/datasets/{repo}/settings").status_code == 404
        for form, data in (("private", {"private": "yes"}), ("delete", {"confirm": repo})):
            answer = client.post(f"/datasets/{repo}/settings/{form}", data={"csrf": token, **data})
            assert answer.status_code == 404


def test_programs_get_no_page_for_what_is_missing(made):
    client = TestClient(made[0])
    assert client.get("/api/nothing", headers={"accept": "text/html"}).json() == {"detail": "Not Found"}
    assert client.get("/nothing").json() == {"detail": "Not Found"}
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        assert client.request(method, "/cas/x/v1/xorb-grants/default/x").status_code == 404, method
    assert "<h1>Not found</h1>" in client.get("/nothing", headers={"accept": "text/html"}).text
