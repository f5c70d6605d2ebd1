"""What the REST surface takes and gives, as pydantic models, and what OpenAPI tells of it. Does nothing."""
