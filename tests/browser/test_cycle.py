"""A running hub from end to end: pushed by the client, found in the browser, copied, run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from playwright.sync_api import expect, sync_playwright

from commentary_hub import hub as client
from commentary_hub.artefact import load
from tests.browser.serving import FLAGS
from tests.reuse.bound import X, Y, stored, table_dataset
from tests.server.hub.running import running

CHROMIUM = shutil.which("chromium")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where commentary-hub was installed
REPO = "ada/rows-weights"
PRELUDE = """
import torch
from torch.utils.data import TensorDataset
dataset = TensorDataset(*torch.load({path!r}))
student = torch.nn.Linear(5, 4)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
before = student.weight.detach().clone()
"""
CHECK = """
assert binding.counts.found == 200, binding.counts
assert not torch.equal(student.weight, before)
print("trained", len(binding))
"""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH (Debian: apt-get install chromium)"),
    pytest.mark.xdist_group("browser-cycle"),  # one hub: in order
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    with running(folder / "data") as one:
        one.world.directory.add_user("ada", password="ada's own secret")
        one.world.directory.add_user("grace", password="grace's own secret")
        one.artefact = folder / "artefact"
        stored(one.artefact, description="Which rows to trust", classes=tuple("abcd"), stages=1)
        one.secret = one.token("ada")
        yield one


@pytest.fixture
def page():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
        yield context.new_page()
        browser.close()


def sign_in(page, hub, name):
    page.goto(f"{hub.url}/sign-in")
    page.fill("#name", name)
    page.fill("#password", f"{name}'s own secret")
    page.click("main button")
    page.wait_for_url(f"{hub.url}/")


def test_what_a_client_pushes_is_found_copied_and_trains_a_student(hub, page, tmp_path):
    page.goto(hub.url)
    assert page.inner_text("#found") == "0 commentaries"
    pushed = client.push(hub.artefact, REPO, endpoint=hub.url, token=hub.secret)
    page.fill("#search", "trust")
    expect(page.locator("#found")).to_have_text("1 commentary")
    page.click(".list a.for")
    assert page.inner_text("h1") == "some/rows"
    page.click("tbody th a")
    assert page.url == pushed.url
    page.click("[data-copy=snippet-pytorch]")
    expect(page.locator("#said")).to_have_text("Copied")
    snippet = page.evaluate("navigator.clipboard.readText()")
    assert f"{REPO}@{pushed.revision}" in snippet
    variable, _, value = page.inner_text("#snippet-endpoint").removeprefix("export ").partition("=")
    torch.save((X, Y), tmp_path / "rows.pt")
    script = PRELUDE.format(path=str(tmp_path / "rows.pt")) + snippet + CHECK
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, variable: value, "HF_HOME": str(tmp_path), "COMMENTARY_HUB_CACHE": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout == "trained 200\n", done.stderr
    page.goto(f"{pushed.url}/tree/main")
    with page.expect_download() as download:
        page.click("a[download] >> nth=1")
    assert download.value.suggested_filename == "commentary.json"


TRAINER = """
import torch
from datasets import load_from_disk
from transformers import TrainingArguments
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 4)
    def forward(self, x, labels=None):
        return {{"logits": self.linear(x)}}
dataset, model = load_from_disk({folder!r}), Model()
arguments = TrainingArguments({folder!r}, max_steps=3, report_to="none", use_cpu=True, disable_tqdm=True)
before = model.linear.weight.detach().clone()
{snippet}
assert not torch.equal(model.linear.weight, before)
"""
LIGHTNING = """
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset
class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(5, 4)
    def forward(self, inputs):
        return self.linear(inputs)
    def training_step(self, batch, number):
        raise AssertionError("the loss is the commentary's")
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
module, loader = Module(), DataLoader(TensorDataset(*torch.load({rows!r})), batch_size=50)
trainer = lightning.Trainer(max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False,
                            enable_progress_bar=False, default_root_dir={folder!r})
before = module.linear.weight.detach().clone()
{snippet}
assert not torch.equal(module.linear.weight, before)
"""


@pytest.mark.parametrize("way", ["trainer", "lightning", "cli"])
def test_the_other_ways_of_using_it_run_as_they_were_copied(hub, page, tmp_path, way):
    repo, folder, rows = "ada/copied", tmp_path / "digits", tmp_path / "rows.pt"
    url = client.push(hub.artefact, repo, endpoint=hub.url, token=hub.secret).url
    table_dataset().save_to_disk(folder)
    torch.save((X, Y), rows)
    page.goto(url)
    page.click({"trainer": "text=Trainer", "lightning": "text=Lightning", "cli": "text=Command line"}[way])
    page.click(f"[data-copy=snippet-{way}]")
    expect(page.locator("#said")).to_have_text("Copied")
    snippet = page.evaluate("navigator.clipboard.readText()")
    page.click("[data-copy=snippet-endpoint]")
    page.wait_for_function("navigator.clipboard.readText().then((text) => text.startsWith('export '))")
    endpoint = page.evaluate("navigator.clipboard.readText()")
    if way == "cli":
        command = snippet
    else:
        script = tmp_path / "train.py"
        body = {"trainer": TRAINER, "lightning": LIGHTNING}[way]
        script.write_text(body.format(snippet=snippet, folder=str(folder), rows=str(rows)))
        command = f"{sys.executable} {script}"
    done = subprocess.run(
        ["bash", "-c", f"{endpoint}\n{command}"], capture_output=True, text=True, check=False, timeout=240,
        env={**os.environ, "HF_HOME": str(tmp_path), "COMMENTARY_HUB_CACHE": str(tmp_path), "PATH": PATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if way == "cli":
        assert load(done.stdout.strip()).tensor_digest == load(hub.artefact).tensor_digest


def test_what_cannot_be_read_is_kept_and_says_why(hub, page):
    api = HfApi(endpoint=hub.url, token=hub.secret)
    api.create_repo("ada/broken", repo_type="dataset")
    for text, reason in ((b'{"format": "commentary", "format_version": 7}', "format version 7"), (b"{", "not JSON")):
        api.upload_file(path_or_fileobj=text, path_in_repo="commentary.json", repo_id="ada/broken", repo_type="dataset")
        page.goto(f"{hub.url}/datasets/ada/broken")
        assert "Kept, but not listed" in page.inner_text("main")
        assert reason in page.inner_text("main")
        page.goto(f"{hub.url}/?search=broken")
        assert page.inner_text("#found") == "0 commentaries"
        page.goto(f"{hub.url}/datasets/ada/broken/blob/main/commentary.json")
        assert page.inner_text("pre") == text.decode()


def test_made_private_it_is_gone_for_others_on_every_way_and_deleted_for_all(hub, page):
    repo = "ada/passing"
    client.push(hub.artefact, repo, endpoint=hub.url, token=hub.secret)
    grace = hub.token("grace")
    sign_in(page, hub, "ada")
    page.goto(f"{hub.url}/datasets/{repo}/settings")
    page.click("text=Make private")
    page.wait_for_selector("text=Make public")
    assert repo in {found.repo_id for found in client.find(search="passing", endpoint=hub.url, token=hub.secret)}
    assert client.find(search="passing", endpoint=hub.url, token=grace) == []
    assert not HfApi(endpoint=hub.url, token=grace).repo_exists(repo, repo_type="dataset")
    page.fill("#confirm", repo)
    page.click("text=Delete for ever")
    page.wait_for_url(f"{hub.url}/")
    assert not HfApi(endpoint=hub.url, token=hub.secret).repo_exists(repo, repo_type="dataset")
    assert page.goto(f"{hub.url}/datasets/{repo}").status == 404


def test_a_token_made_in_the_browser_lets_a_client_write(hub, page):
    sign_in(page, hub, "grace")
    page.goto(f"{hub.url}/tokens")
    page.fill("#label", "laptop")
    page.select_option("#role", "write")
    page.click("text=Make a token")
    secret = page.inner_text("#secret")
    pushed = client.push(hub.artefact, "grace/by-hand", endpoint=hub.url, token=secret)
    assert page.goto(pushed.url).status == 200
    assert "Which rows to trust" in page.inner_text(".lead")
