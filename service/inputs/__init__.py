"""The inputs of a request on their way in: embedded, kept if the head keeps them, joined to a support set."""
