"""A commentary on a running hub, read in parts by Range; and from the cache where there is no hub."""

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub.utils import _http as client
from torch.utils.data import TensorDataset

from commentary_hub import hub
from commentary_hub.artefact import load, load_part
from commentary_hub.data import content_keys, target_digests
from commentary_hub.errors import HubError, HubNotFound, HubUnreachable
from commentary_hub.reuse import bind, load_for
from tests.reuse.bound import stored
from tests.server.hub.running import running

N, KNOWN = 100_000, 12
REPO = "ada/far-weights"


def examples():
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(N) % 4, torch.linspace(-3, 3, N)


@pytest.fixture(scope="module")
def running_hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with running(folder / "data") as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", one.token("ada"))
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "pushing"))
        x, y, logits = examples()
        stored(folder / "a", content_keys(x), target_digests(y), logits=logits)
        hub.push(folder / "a", REPO, endpoint=one.url, token=one.token("ada"))
        one.artefact = folder / "a"
        yield one


@pytest.fixture
def there(running_hub, tmp_path, monkeypatch):
    """The hub as this machine's, with an empty cache; ``sent`` counts the bytes that it sends."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running_hub.url)
    template = running_hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("COMMENTARY_HUB_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("HF_TOKEN", running_hub.token("ada"))
    running_hub.sent = []

    def counted():
        one = client.default_client_factory()
        one.event_hooks["response"].append(
            lambda response: running_hub.sent.append(int(response.headers.get("content-length", 0)))
        )
        return one

    huggingface_hub.set_client_factory(counted)
    yield running_hub
    huggingface_hub.set_client_factory(client.default_client_factory)


def part_of_the_examples():
    x, y, logits = examples()
    places = torch.tensor([3, 77_777, 15, *range(50_000, 50_000 + KNOWN - 3)])
    foreign = torch.zeros(1, 3)
    dataset = TensorDataset(torch.cat([x[places], foreign]), torch.cat([y[places], torch.zeros(1, dtype=torch.int64)]))
    return dataset, torch.sigmoid(logits[places])


def test_a_few_rows_come_by_range_and_bind_as_the_whole_table_does(there):
    dataset, expected = part_of_the_examples()
    part = load_for(REPO, dataset)
    assert len(part.rows.keys) == KNOWN
    size = sum((there.artefact / name).stat().st_size for name in part.manifest.tensor_files)
    assert size > 2_800_000
    assert sum(there.sent) < 0.2 * size
    assert max(there.sent) < 0.05 * size
    binding, whole = (bind(one, dataset, threshold=0.9) for one in (part, load(there.artefact)))
    assert binding.counts == whole.counts
    assert torch.equal(binding.weights(), whole.weights())
    assert torch.allclose(binding.weights()[:KNOWN], expected / expected.double().mean().float(), atol=1e-6)


def test_offline_the_same_rows_come_from_the_cache_and_others_say_why_not(there, monkeypatch):
    dataset, _ = part_of_the_examples()
    online = load_for(REPO, dataset)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    before = len(there.sent)
    offline = load_for(REPO, dataset)
    assert torch.equal(offline.commentary.logits, online.commentary.logits)
    with pytest.raises(HubUnreachable, match="nothing is cached"):
        load_for(REPO, TensorDataset(examples()[0][:2], torch.tensor([0, 1])))
    with pytest.raises(HubUnreachable):
        load_for("ada/never-seen", dataset)
    assert len(there.sent) == before


def test_offline_what_was_pulled_answers_for_any_rows(there, monkeypatch):
    assert load(hub.pull(REPO)).manifest.name == "rows"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    keys = content_keys(examples()[0][:5])
    assert len(load_part(hub.remote(REPO), keys).rows.keys) == 5
    assert np.array_equal(load(hub.pull(REPO)).rows.keys, load(there.artefact).rows.keys)


def test_a_hub_that_does_not_send_what_was_asked_is_refused(there, monkeypatch):
    source = hub.remote(REPO)
    with pytest.raises(HubError):
        source.read("commentary.safetensors", 0, 10**9)
    with pytest.raises(HubNotFound):
        source.read("nothing.safetensors", 0, 10)
    with pytest.raises(HubNotFound):
        hub.remote("ada/nothing")
    monkeypatch.setattr("commentary_hub.hub._remote._PARTIAL", 299)  # every answer is another than a part
    with pytest.raises(HubError, match="pull the whole"):
        source.read("commentary.safetensors", 0, 10)
