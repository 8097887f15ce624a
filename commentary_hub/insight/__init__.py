"""What a commentary says: pictures for its card, as PNG bytes with alternative texts, and the outermost examples.

Nothing here opens a window or a file.
"""

from commentary_hub.insight._evidence import comparison
from commentary_hub.insight._pictures import pictures
from commentary_hub.insight._ranking import Ranked, ranked

__all__ = ["Ranked", "comparison", "pictures", "ranked"]
