"""`serve --with-cards` publishes reference commentaries into a hub, once."""

from pathlib import Path

from fastapi.testclient import TestClient

from commentary_hub.manifest import MANIFEST_NAME
from commentary_hub_server.app import build_app, open_world
from commentary_hub_server.cards import publish
from commentary_hub_server.settings import Settings

ROOT = Path(__file__).parents[2]


def test_cards_are_published_under_a_user_of_their_own_and_only_once(tmp_path):
    folder = ROOT / "cards"
    names = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST_NAME}"))
    settings = Settings(data_dir=tmp_path)
    world = open_world(settings)
    assert publish(world, folder) == len(names) > 0
    with TestClient(build_app(settings, world)) as client:
        found = {one["id"]: one for one in client.get("/api/commentaries").json()["items"]}
        assert sorted(found) == [f"cards/{name}" for name in names]
        before = client.get(f"/api/datasets/cards/{names[0]}").json()["sha"]
        served = client.get(f"/datasets/cards/{names[0]}/resolve/main/commentary.safetensors")
        assert served.content == (folder / names[0] / "commentary.safetensors").read_bytes()
        publish(world, folder)
        assert client.get(f"/api/datasets/cards/{names[0]}").json()["sha"] == before
