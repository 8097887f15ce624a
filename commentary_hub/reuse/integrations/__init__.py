"""One changed line in somebody else's training loop: ``transformers`` and ``lightning``, each in a module of its own.

Nothing is imported here, so that neither has to be installed for the other.
"""

__all__: list[str] = []
