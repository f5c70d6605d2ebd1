"""The REST surface, one small file for each resource."""

from service.routes import embeddings, examples, extractors, heads, health, pages, predictions, versions

ROUTERS = (
    extractors.router,
    embeddings.router,
    heads.router,
    examples.router,
    versions.router,
    predictions.router,
    health.router,
    pages.router,
)
