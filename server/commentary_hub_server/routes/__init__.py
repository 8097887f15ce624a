"""The doors: parse, call a rule, render. Hub protocol, catalogue and pages do not know each other."""
