"""Pushing, against a running hub: nothing but the artefact, and to the branch that was named."""

import pytest
from huggingface_hub import HfApi

from commentary_hub import hub
from commentary_hub.artefact import attach
from commentary_hub.data import content_keys, target_digests
from commentary_hub.errors import ArtefactError, HubConflict, HubError
from commentary_hub.manifest import Evidence, Manifest
from tests.hub.test_find import write
from tests.hub.test_remote import examples
from tests.reuse.bound import stored
from tests.server.hub.running import running


def test_a_push_makes_the_branch_that_it_names_but_none_with_a_tags_name(tmp_path):
    folder = write(tmp_path / "weights", "weights", "example_weights", "sklearn/digits")
    with running(tmp_path / "data") as one:
        access = {"endpoint": one.url, "token": one.token("ada")}
        api, kind = HfApi(**access), {"repo_type": "dataset"}
        made = hub.push(folder, "ada/weights@exp/1", **access)
        assert api.dataset_info("ada/weights", revision="exp/1").sha == made.revision
        assert api.list_repo_files("ada/weights", **kind) == []
        main = hub.push(folder, "ada/weights", **access)
        assert hub.push(folder, "ada/weights@main", **access).revision == main.revision
        assert hub.push(folder, "ada/weights@exp/1", **access).revision == made.revision
        api.create_tag("ada/weights", tag="v1", **kind)
        other = write(tmp_path / "other", "weights", "label_blend", "sklearn/digits")
        with pytest.raises(HubError):
            hub.push(other, "ada/weights@v1", **access)
        assert {ref.name for ref in api.list_repo_refs("ada/weights", **kind).branches} == {"main", "exp/1"}


def test_what_lies_beside_an_artefact_is_not_published(tmp_path):
    x, y, logits = (part[:100] for part in examples())
    manifest = stored(tmp_path / "a", content_keys(x), target_digests(y), logits=logits).manifest
    (tmp_path / "a" / "patients.csv").write_text("name\n")
    (tmp_path / "a" / "drafts").mkdir()
    (tmp_path / "a" / "drafts" / "notes.md").write_text("mine\n")
    with running(tmp_path / "data") as one:
        token = one.token("ada")
        pushed = hub.push(tmp_path / "a", "ada/weights", endpoint=one.url, token=token)
        found = HfApi(endpoint=one.url, token=token).list_repo_files(pushed.repo_id, repo_type="dataset")
    assert set(found) - {".gitattributes"} == {*manifest.files, "commentary.json"}


def test_a_push_that_a_gitignore_would_cut_short_is_refused_and_changes_nothing(tmp_path):
    folder = write(tmp_path / "weights", "weights", "example_weights", "sklearn/digits")
    with running(tmp_path / "data") as one:
        access = {"endpoint": one.url, "token": one.token("ada")}
        api, there = HfApi(**access), {"repo_id": "ada/set", "repo_type": "dataset"}
        api.create_repo(**there)
        for pattern, hidden in (("*.safetensors", r"commentary\.safetensors"), ("commentary.json", "commentary.json")):
            api.upload_file(path_or_fileobj=pattern.encode(), path_in_repo=".gitignore", **there)
            before = api.dataset_info("ada/set").sha
            with pytest.raises(
                HubConflict, match=rf"ada/set hides commentaries/weights/{hidden}: take the pattern out"
            ):
                hub.push(folder, "ada/set", into_dataset=True, **access)
            assert api.dataset_info("ada/set").sha == before
        api.upload_file(path_or_fileobj=b"*.log", path_in_repo=".gitignore", **there)
        hub.push(folder, "ada/set", into_dataset=True, **access)
        assert "commentaries/weights/commentary.safetensors" in api.list_repo_files(**there)


def test_a_new_revision_deletes_what_the_artefact_has_no_more_and_nothing_beside_it(tmp_path):
    folder = write(tmp_path / "weights", "weights", "example_weights", "sklearn/digits")
    bare = write(tmp_path / "bare", "weights", "example_weights", "sklearn/digits", measured=False)
    with running(tmp_path / "data") as one:
        access = {"endpoint": one.url, "token": one.token("ada")}
        api, there = HfApi(**access), {"repo_id": "ada/set", "repo_type": "dataset"}
        api.create_repo(**there)
        for name in ("evidence.json", "own.safetensors", "commentaries/weights/plots/old.png"):
            api.upload_file(path_or_fileobj=b"1", path_in_repo=name, **there)
        hub.push(folder, "ada/set", into_dataset=True, **access)
        assert "commentaries/weights/evidence.json" in api.list_repo_files(**there)
        hub.push(bare, "ada/set", into_dataset=True, message="Without evidence", **access)
        own = {path.relative_to(bare).as_posix() for path in bare.rglob("*") if path.is_file()}
        expected = {"evidence.json", "own.safetensors", *(f"commentaries/weights/{name}" for name in own)}
        assert set(api.list_repo_files(**there)) - {".gitattributes"} == expected
        commits = [commit.title for commit in api.list_repo_commits(**there)]
    assert commits[:2] == ["Without evidence", "Push commentary weights"]


def test_evidence_that_was_put_beside_an_artefact_is_attached_before_it_is_pushed(tmp_path):
    folder = write(tmp_path / "weights", "weights", "example_weights", "sklearn/digits")
    path = folder / "commentary.json"
    manifest = Manifest.from_json(path.read_bytes())
    files = {name: digest for name, digest in manifest.files.items() if name != "evidence.json"}
    path.write_text(manifest.model_copy(update={"files": files}).to_json())
    with running(tmp_path / "data") as one:
        access = {"endpoint": one.url, "token": one.token("ada")}
        with pytest.raises(ArtefactError, match="is not in the manifest and would not be sent: attach it first"):
            hub.push(folder, "ada/weights", **access)
        assert not HfApi(**access).repo_exists("ada/weights", repo_type="dataset")
        attach(folder, evidence=Evidence.from_json((folder / "evidence.json").read_bytes()))
        hub.push(folder, "ada/weights", **access)
        assert HfApi(**access).file_exists("ada/weights", "evidence.json", repo_type="dataset")
