"""The pictures that a card shows, as PNG bytes with alternative texts; nothing here opens a window or a file."""

from commentary_hub.insight._evidence import comparison
from commentary_hub.insight._pictures import pictures

__all__ = ["comparison", "pictures"]
