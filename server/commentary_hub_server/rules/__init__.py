"""The rules: what the hub does, with no web framework inside."""
