"""The catalogue over REST: answers, documentation, conditions, and who gets them."""

import io
from dataclasses import replace

import pyarrow.ipc
import pytest
from fastapi.testclient import TestClient

from commentary_hub_server.routes.catalogue import _answers, _one
from tests.server.catalogue.seeding import world

BASE = "/api/commentaries"


@pytest.fixture(scope="module")
def client():
    return TestClient(world(24)[0])


def as_user(name):
    return {"x-test-user": name}


def test_search_answers_with_facets_a_count_and_a_cursor_that_goes_on(client):
    first = client.get(BASE, params={"kind": "example_weights", "limit": 5}).json()
    assert (first["total"], len(first["items"])) == (12, 5)
    assert set(first["facets"]) == {
        "dataset", "kind", "owner", "method", "licence", "verified", "outcome", "student", "gain",
    }  # fmt: skip
    second = client.get(BASE, params={"kind": "example_weights", "limit": 5, "cursor": first["next"]}).json()
    ids = [item["id"] for item in first["items"] + second["items"]]
    assert len(set(ids)) == 10
    assert client.get(BASE, params={"cursor": "x"}).status_code == 400
    assert "facets" not in {k for k, v in client.get(BASE, params={"facets": "false"}).json().items() if v is not None}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/datasets",
        "/datasets/sklearn/digits",
        "/compare?id=ada/digits-example-weights-0&id=ada/mnist-example-weights-12",
        "/ada/digits-example-weights-0",
        "/ada/digits-example-weights-0/rows",
    ],
)
def test_what_the_client_has_already_is_not_sent_again(client, path):
    first = client.get(BASE + path)
    assert first.status_code == 200
    again = client.get(BASE + path, headers={"If-None-Match": f'"other", {first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert first.headers["vary"] == "Authorization, Cookie"
    assert "private" in first.headers["cache-control"]


def test_one_answers_with_manifest_evidence_files_lineage_and_revisions(client):
    one = client.get(f"{BASE}/noether-lab/digits-example-weights-5").json()
    assert one["manifest"]["kind"] == "example_weights"
    assert one["evidence"]["outcome"] == one["outcome"]
    assert {"path", "size_bytes", "digest"} == one["files"][0].keys()
    assert "plots/samples.png" in [file["path"] for file in one["files"]]
    assert [revision["title"] for revision in one["revisions"]] == ["Learn longer", "First try"]
    assert one["lineage"]["parents"] == [
        {
            "reference": "ada/digits-example-weights-0",
            "origin": None,
            "digest": None,
            "id": "ada/digits-example-weights-0",
        },
        {"reference": "a spreadsheet of 2019", "origin": None, "digest": None, "id": None},
    ]
    parent = client.get(f"{BASE}/ada/digits-example-weights-0").json()
    assert parent["lineage"]["children"] == ["noether-lab/digits-example-weights-5"]


def test_of_a_repository_the_first_files_are_listed_as_many_as_the_interface_says(client, monkeypatch):
    path = f"{BASE}/ada/digits-example-weights-0"
    files = client.get(path).json()["files"]
    assert len(files) > 3
    monkeypatch.setattr(_one, "MAX_FILES", 3)
    assert client.get(path).json()["files"] == files[:3]
    said = client.get("/openapi.json").json()["components"]["schemas"]["One"]["description"]
    assert f"the first {_answers.MAX_FILES:,} ``files``" in said


def test_rows_by_range_by_key_and_as_arrow_agree(client):
    rows = f"{BASE}/ada/digits-example-weights-0/rows"
    some = client.get(rows, params={"first": 7, "count": 3}).json()
    assert (some["total"], [row["row"] for row in some["rows"]]) == (600, [7, 8, 9])
    assert client.get(rows, params={"key": some["rows"][1]["key"]}).json()["rows"] == [some["rows"][1]]
    answer = client.get(rows, params={"first": 7, "count": 3, "format": "arrow"})
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pyarrow.ipc.open_stream(io.BytesIO(answer.content)).read_all().to_pydict()
    assert table["key"] == [row["key"] for row in some["rows"]]
    assert table["logits.3"] == [row["values"]["logits"][3] for row in some["rows"]]
    assert client.get(rows, params={"key": "zz"}).status_code == 400
    assert client.get(rows, params={"count": 1001}).status_code == 422
    blend = client.get(f"{BASE}/emmy/mnist-label-blend-2/rows")
    assert blend.status_code == 422
    assert "no rows" in blend.json()["detail"]


def test_datasets_are_ranked_by_gain_and_suggested_by_prefix(client):
    lines = client.get(f"{BASE}/datasets").json()["items"]
    assert [line["best_gain"] for line in lines] == sorted((line["best_gain"] for line in lines), reverse=True)
    assert [line["id"] for line in client.get(f"{BASE}/datasets", params={"prefix": "SKL"}).json()["items"]] == [
        "sklearn/digits"
    ]
    ranked = client.get(f"{BASE}/datasets/sklearn/digits").json()["items"]
    gains = [item["gain"] for item in ranked if item["gain"] is not None]
    assert gains == sorted(gains, reverse=True)
    assert len(gains) > 2
    assert client.get(f"{BASE}/datasets/no/such").status_code == 404


def test_comparison_keeps_the_order_and_says_whether_datasets_are_the_same(client):
    same = ["ada/digits-example-weights-0", "noether-lab/digits-example-weights-5"]
    answer = client.get(f"{BASE}/compare", params={"id": same[::-1]}).json()
    assert [item["id"] for item in answer["items"]] == same[::-1]
    assert answer["same_dataset"] is True
    assert all(item["evidence"]["measurements"] for item in answer["items"])
    other = client.get(f"{BASE}/compare", params={"id": [same[0], "ada/mnist-example-weights-12"]}).json()
    assert other["same_dataset"] is False
    assert client.get(f"{BASE}/compare", params={"id": same[:1]}).status_code == 422


def test_commentaries_inside_a_dataset_answer_by_their_folder(client):
    letters = f"{BASE}/katherine/letters"
    folder = {"folder": "commentaries/example-weights"}
    assert client.get(letters, params=folder).status_code == 404
    one = client.get(letters, params=folder, headers=as_user("katherine")).json()
    assert (one["id"], one["folder"], one["name"]) == ("katherine/letters", folder["folder"], "example-weights")
    assert client.get(f"{letters}/rows", params=folder, headers=as_user("katherine")).json()["total"] == 80
    assert client.get(letters, headers=as_user("katherine")).status_code == 404


def test_what_is_kept_and_not_listed_says_why_to_those_who_may_read_it(client):
    future = f"{BASE}/katherine/from-the-future"
    answer = client.get(future, headers=as_user("katherine"))
    assert answer.status_code == 422
    assert "format version 7" in answer.json()["detail"]
    assert "from-the-future" not in client.get(BASE, params={"limit": 100}, headers=as_user("katherine")).text
    hidden, missing = client.get(future), client.get(f"{BASE}/katherine/never-made")
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content) == (404, missing.content)


def test_private_ones_are_in_no_count_facet_suggestion_or_comparison(client):
    owner = as_user("katherine")
    assert client.get(BASE, headers=owner).json()["total"] == client.get(BASE).json()["total"] + 2
    assert "katherine/letters" in client.get(f"{BASE}/datasets", headers=owner).text
    for path in ("", "/datasets", "/datasets?prefix=kath", "?search=letters", "?search=mixture"):
        assert "letters" not in client.get(BASE + path).text
    asked = {"id": ["ada/digits-example-weights-0", "katherine/letters/commentaries/example-weights"]}
    assert client.get(f"{BASE}/compare", params=asked).status_code == 404
    assert client.get(f"{BASE}/compare", params=asked, headers=owner).status_code == 200
    assert client.get(f"{BASE}/datasets/katherine/letters").content.replace(b"katherine/letters", b"") == (
        client.get(f"{BASE}/datasets/katherine/nothing").content
    )


def test_one_commentary_is_for_those_who_may_read_its_repository_whatever_the_index_says():
    app, _, shelf, _ = world(24)
    name = "ada/digits-example-weights-0"
    shelf.places[name] = replace(shelf.places[name], private=True)
    client = TestClient(app)
    for path in (f"/{name}", f"/{name}/rows", f"/compare?id={name}&id={name}"):
        assert client.get(BASE + path).status_code == 404
        assert client.get(BASE + path, headers=as_user("ada")).status_code == 200
    assert name not in client.get(f"/compare?id={name}").text.replace(f"id={name}", "")


def test_every_route_is_documented_with_an_example(client):
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    routes = {path: route for path, route in described["paths"].items() if path.startswith(BASE)}
    assert set(routes) == {
        BASE, f"{BASE}/datasets", f"{BASE}/datasets/{{dataset}}", f"{BASE}/compare", f"{BASE}/{{owner}}/{{name}}",
        f"{BASE}/{{owner}}/{{name}}/rows",
    }  # fmt: skip
    for path, route in routes.items():
        answer = route["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        schema = schemas[answer.rpartition("/")[2]]
        assert "example" in schema, path
        assert set(schema["required"]) <= schema["example"].keys(), path
        assert route["get"]["summary"], path
        assert "304" in route["get"]["responses"], path
