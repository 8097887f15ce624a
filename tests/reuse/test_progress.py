"""The bar that counts keyed examples: each once, and only where it is wanted."""

import os
import re
import subprocess
import sys

import pytest
from torch.utils.data import TensorDataset

from commentary_hub.data import Examples, content_keys
from commentary_hub.reuse import bind
from tests.reuse.bound import N, X, Y, stored


def counted(text):
    """The (done, of all) that a bar has shown, without colours and doubles."""
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
    return [tuple(map(int, pair)) for pair in dict.fromkeys(re.findall(r"(\d+)/(\d+)", plain))]


def test_a_bar_counts_every_example_once_and_is_there_only_where_it_is_wanted(tmp_path, capfd):
    one, data = stored(tmp_path / "a"), TensorDataset(X, Y)
    bind(one, data)
    bind(one, data, progress=False)
    assert capfd.readouterr().err == ""  # no terminal here
    bind(one, data, progress=True)
    shown = capfd.readouterr().err
    assert "recognising examples" in shown
    assert counted(shown)[-1] == (N, N)
    salted = stored(tmp_path / "b", salt="correct horse battery")
    bind([one, salted, stored(tmp_path / "c")], data, salt="correct horse battery", progress=True)
    assert counted(capfd.readouterr().err)[-1] == (2 * N, 2 * N)  # with the salt and without it
    examples = Examples.of(X, Y, keys=content_keys(X))
    bind(one, examples, progress=True)
    assert capfd.readouterr().err == ""  # their keys are known


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_bar_unasked(tmp_path):
    import pty

    stored(tmp_path / "a")
    script = (
        "from commentary_hub.artefact import load; from commentary_hub.reuse import bind\n"
        "from tests.reuse.bound import X, Y; from torch.utils.data import TensorDataset\n"
        f"bind(load({str(tmp_path / 'a')!r}), TensorDataset(X, Y))"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", script], stderr=theirs, check=True, env={**os.environ, "TERM": "xterm"})
    os.close(theirs)
    text = b""
    while chunk := read_from(ours):
        text += chunk
    os.close(ours)
    assert counted(text.decode())[-1] == (N, N)


def read_from(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other side is closed
        return b""
