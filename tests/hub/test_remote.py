"""A commentary on a running hub, read in parts by Range; and from the cache where there is no hub."""

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import _http as client
from torch.utils.data import TensorDataset

from commentary_hub import hub
from commentary_hub.artefact import load, load_part
from commentary_hub.data import content_keys, target_digests
from commentary_hub.errors import HubError, HubNotFound, HubUnreachable
from commentary_hub.reuse import bind, load_for
from tests.browser.serving import listening
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
    assert len(there.sent) <= 8  # the manifest's two, a header's, and one for each round of all keys
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
        source.read("commentary.safetensors", [(0, 10**9)])
    with pytest.raises(HubError):
        source.read("commentary.safetensors", [(0, 10), (10**9, 10**9 + 10)])
    with pytest.raises(HubNotFound):
        source.read("nothing.safetensors", [(0, 10), (90, 100)])
    with pytest.raises(HubNotFound):
        hub.remote("ada/nothing")
    monkeypatch.setattr("commentary_hub.hub._remote._PARTIAL", 299)  # every answer is another than a part
    with pytest.raises(HubError, match="pull the whole"):
        source.read("commentary.safetensors", [(0, 10)])


class Sender:
    """A web server of one file that answers several ranges as told; knows what was asked."""

    def __init__(self, content, how):
        self.content, self.how, self.asked = content, how, []

    async def __call__(self, scope, receive, send):
        text = dict(scope["headers"])[b"range"].decode().removeprefix("bytes=")
        spans = [(int(start), int(last) + 1) for start, last in (one.split("-") for one in text.split(","))]
        self.asked.append(spans)
        status, kind, body = self.answer(spans)
        said = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": said})
        await send({"type": "http.response.body", "body": body})

    def answer(self, spans):
        start, stop = spans[0]
        if len(spans) == 1 or self.how == "the first":
            return 206, b"application/octet-stream", self.content[start:stop]
        if self.how == "whole":
            return 200, b"application/octet-stream", self.content
        if self.how == "bad request":
            return 400, b"text/plain", b"what?"
        if self.how == "reversed":
            spans = spans[::-1]
        if self.how == "as one":
            spans = [(start, spans[-1][1])]
        if self.how == "one missing":
            spans = spans[1:]
        body = b""
        for start, stop in spans:
            head = f"\r\n--x\r\nContent-Type: text/plain\r\nContent-Range: bytes {start}-{stop - 1}/{len(self.content)}"
            body += head.encode() + b"\r\n\r\n" + self.content[start:stop]
        body = body + b"\r\n--x--\r\n"
        return 206, b"multipart/byteranges; boundary=x", body[:-200] if self.how == "cut off" else body


@pytest.mark.parametrize("how", ["reversed", "as one", "whole", "bad request", "the first", "one missing", "cut off"])
def test_however_a_server_answers_several_ranges_the_bytes_are_right(there, how):
    manifest = hub.remote(REPO).manifest
    content = (np.random.default_rng(0).integers(0, 256, 400_000, dtype=np.uint8).tobytes() + b"\r\n--x\r\n" * 20) * 2
    spans = [(start, start + 7 + start % 90) for start in range(5, len(content) - 100, 3_001)]
    sender = Sender(content, how)
    with listening(sender) as address:
        source = hub.Remote(manifest, there.artefact, "0" * 40, REPO, "", HfApi(endpoint=address, token=False))
        for _ in range(2):
            assert source.read("a.safetensors", spans) == [content[start:stop] for start, stop in spans]
        assert source.read("a.safetensors", []) == []
    if how == "reversed":
        assert len(sender.asked) == 2 * -(-len(spans) // 100)
    else:  # asked for several once, and then for near ones as one
        assert [len(asked) for asked in sender.asked if len(asked) > 1] == [100]
        assert len(sender.asked) < len(spans)


def test_long_spans_are_asked_for_in_pieces(there, monkeypatch):
    monkeypatch.setattr("commentary_hub.hub._ranges._GROUP_BYTES", 1_000)
    manifest, content = hub.remote(REPO).manifest, bytes(range(256)) * 40
    sender = Sender(content, "in order")
    with listening(sender) as address:
        source = hub.Remote(manifest, there.artefact, "0" * 40, REPO, "", HfApi(endpoint=address, token=False))
        spans = [(3, 40), (50, 4_321), (9_000, 10_240)]
        assert source.read("a.safetensors", spans) == [content[start:stop] for start, stop in spans]
    assert max(sum(stop - start for start, stop in asked) for asked in sender.asked) <= 1_000
