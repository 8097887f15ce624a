"""Find, push and pull commentaries with ``huggingface_hub``: no HTTP client and no protocol of our own."""

from commentary_hub.hub._account import account
from commentary_hub.hub._find import Found, find
from commentary_hub.hub._pull import pull
from commentary_hub.hub._push import Pushed, push
from commentary_hub.hub._remote import Remote, remote

__all__ = ["Found", "Pushed", "Remote", "account", "find", "pull", "push", "remote"]
