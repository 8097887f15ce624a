"""What is pushed is the artefact: nothing else that lies in its folder."""

from huggingface_hub import HfApi

from commentary_hub import hub
from commentary_hub.data import content_keys, target_digests
from tests.hub.test_remote import examples
from tests.reuse.bound import stored
from tests.server.hub.running import running


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
