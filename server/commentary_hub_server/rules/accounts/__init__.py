"""Who may do what: users, organisations, roles, tokens, passwords."""

from commentary_hub_server.rules.accounts._directory import Directory, Owner, Profile, Token

__all__ = ["Directory", "Owner", "Profile", "Token"]
