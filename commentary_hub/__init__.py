"""Commentary Hub: learn, share and reuse commentaries on datasets."""
