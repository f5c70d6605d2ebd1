"""The REST surface, one small file for each resource."""

from service.routes import (
    advice,
    audit,
    checks,
    embeddings,
    evaluations,
    examples,
    exports,
    extractors,
    finetunes,
    heads,
    health,
    imports,
    inputs,
    jobs,
    moves,
    pages,
    panels,
    predictions,
    versions,
)

RESOURCES = (
    extractors.router,
    embeddings.router,
    heads.router,
    examples.router,
    inputs.router,
    checks.router,
    advice.router,
    versions.router,
    moves.router,
    predictions.router,
    panels.router,
    evaluations.router,
    exports.router,
    imports.router,
    finetunes.router,
    jobs.router,
    audit.router,
)
# Called most, by far: they take the lane.
BUSY = (predictions.predict, panels.predict_many, embeddings.create_embeddings)
# Browsers and monitors call these, with parameters of their own.
WATCHED = (health.router, pages.router)
