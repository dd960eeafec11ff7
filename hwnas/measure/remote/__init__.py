"""Boards over ssh: the link, the agent's set-up there, and what can go wrong."""
