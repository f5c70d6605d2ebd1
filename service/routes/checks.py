"""`/v1/heads/{name}/checks`: wrong labels, duplicates and outliers among the examples of a head."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from service.http.envelope import answer
from service.review.checker import Checked
from service.routes.common import EngineOf, off_loop
from service.schemas.checks import ChecksAnswer
from service.schemas.openapi import errors
from service.schemas.parameters import HeadName, Limit
from training.heads import Duplicates

router = APIRouter(prefix="/v1/heads", tags=["examples"])

OUTLIER_TYPICALITY = 0.05  # below it, an example is listed; about one of twenty is, where nothing is wrong


@router.get(
    "/{name}/checks",
    response_model=ChecksAnswer,
    responses=errors(404, 405, 409, 422, 500, 503),
)
async def check_head(engine: EngineOf, name: HeadName, limit: Limit = 100) -> Response:
    """Check the examples of a head as they are: probable label errors, duplicates, outliers, worst first.

    Works on cached embeddings: nothing is embedded, nothing is changed.
    """
    checked = await off_loop(engine.checker.check, name)
    return answer(await off_loop(_render, checked, limit))


def _render(checked: Checked, limit: int) -> dict[str, Any]:
    findings = checked.findings
    wrong = [error for error in findings.label_errors if error.is_probable]
    outliers = [outlier for outlier in findings.outliers if outlier.typicality < OUTLIER_TYPICALITY]
    return {
        "head": checked.head,
        "version": checked.published_version,
        "examples": len(checked.support),
        "tuned_on": checked.tuned_on,
        "totals": {
            "label_errors": len(wrong),
            "duplicates": len(findings.duplicates),
            "outliers": len(outliers),
        },
        "label_errors": [
            {
                "id": checked.support.ids[row],
                "label": error.label,
                "suggested": error.suggested,
                "probability_given": error.probability_given,
                "probability_suggested": error.probability_suggested,
                "score": error.score,
            }
            for error in wrong[:limit]
            for row in checked.rows[error.index]
        ],
        "duplicates": [_duplicates(checked, group) for group in findings.duplicates[:limit]],
        "outliers": [
            {
                "id": checked.support.ids[row],
                "label": checked.support.labels[row],
                "typicality": outlier.typicality,
            }
            for outlier in outliers[:limit]
            for row in checked.rows[outlier.index]
        ],
        "timings_ms": checked.timings_ms,
    }


def _duplicates(checked: Checked, group: Duplicates) -> dict[str, Any]:
    rows = [row for index in group.indices for row in checked.rows[index]]
    return {
        "ids": [checked.support.ids[row] for row in rows],
        "labels": [checked.support.labels[row] for row in rows],
        "similarity": group.similarity,
        "conflicting": group.conflicting,
    }
