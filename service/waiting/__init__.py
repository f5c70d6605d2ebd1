"""Everybody who waits: requests to be let in, work for a core, clients for an answer, watchers for news."""
