"""Pushing to a branch, against a running hub."""

import pytest
from huggingface_hub import HfApi

from commentary_hub import hub
from commentary_hub.errors import HubError
from tests.hub.test_find import write
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
