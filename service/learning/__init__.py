"""Changes of a support set, and the version that is learned after each, in one transaction."""
