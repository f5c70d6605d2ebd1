"""Who may do what: keys, scopes, and where a server without keys may listen."""
