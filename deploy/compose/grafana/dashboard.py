"""The Grafana dashboard as code: writes dashboards/headstart.json.

    python deploy/compose/grafana/dashboard.py

Knows the panels and their queries. A test runs every query through Prometheus's own parser and looks up every
metric in a running server.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent / "dashboards" / "headstart.json"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WINDOW = "$__rate_interval"
ROWS_PER_PANEL = 8
COLUMNS = 24
PER_LINE = 2


@dataclass(frozen=True)
class Panel:
    """One diagram. `queries` maps legends to PromQL; `unit` is Grafana's name of it."""

    title: str
    about: str
    unit: str
    queries: dict[str, str]


def _quantile(quantile: float, metric: str, by: str, matching: str = "") -> str:
    return f"histogram_quantile({quantile}, sum by (le{by}) (rate({metric}_bucket{matching}[{WINDOW}])))"


def _share(part: str, whole: str, window: str) -> str:
    return f"sum(rate({part}[{window}])) / sum(rate({whole}[{window}]))"


PREDICTIONS = "headstart_predictions_total"
EMBEDDINGS = "headstart_embeddings_total"
UNKNOWN = f'{PREDICTIONS}{{unknown="true"}}'
PANELS = (
    Panel(
        "Requests by status",
        "429 means that a server is full, 5xx that it failed.",
        "reqps",
        {"{{status}}": f"sum by (status) (rate(headstart_requests_total[{WINDOW}]))"},
    ),
    Panel(
        "Predicted and embedded inputs",
        "Inputs a second; computed are those that went through the network.",
        "short",
        {
            "predicted": f"sum(rate({PREDICTIONS}[{WINDOW}]))",
            "embedded": f'sum(rate({EMBEDDINGS}{{source="computed"}}[{WINDOW}]))',
        },
    ),
    Panel(
        "Latency of predictions",
        "Of whole requests, however many inputs they have.",
        "s",
        {
            f"p{round(100 * quantile)}": _quantile(
                quantile, "headstart_request_seconds", "", '{route=~".*/predict"}'
            )
            for quantile in (0.5, 0.95, 0.99)
        },
    ),
    Panel(
        "Latency by stage, 95th percentile",
        "decode and embed: of one chunk of inputs; store, score, fit: of one request.",
        "s",
        {"{{stage}}": _quantile(0.95, "headstart_stage_seconds", ", stage")},
    ),
    Panel(
        "Queue",
        "Mean number of chunks that wait for a core, of requests in progress, and waiting for a GPU.",
        "short",
        {
            "waiting for a core": f'sum(rate(headstart_stage_seconds_sum{{stage="queue"}}[{WINDOW}]))',
            "requests in progress": f"sum(rate(headstart_request_seconds_sum[{WINDOW}]))",
            "waiting for a GPU": f"sum(rate(headstart_device_queue_seconds_sum[{WINDOW}]))",
        },
    ),
    Panel(
        "Cache hits",
        "Share of embeddings that were in memory, in the store, or both.",
        "percentunit",
        {
            source: _share(f'{EMBEDDINGS}{{source=~"{pattern}"}}', EMBEDDINGS, WINDOW)
            for source, pattern in {"memory": "memory", "store": "store", "both": "memory|store"}.items()
        },
    ),
    Panel(
        "Heads",
        "All heads in the database, and versions trained in the last hour.",
        "short",
        {
            "heads": "max(headstart_heads)",
            "versions trained": "sum(increase(headstart_versions_trained_total[1h]))",
        },
    ),
    Panel(
        "Accuracy of published versions",
        "On held-out examples: the worst head, the tenth percentile, the median.",
        "percentunit",
        {"quantile {{quantile}}": "min by (quantile) (headstart_published_accuracy)"},
    ),
    Panel(
        "Drift of the unknown rate",
        "A share far above that of the week means that the inputs have changed.",
        "percentunit",
        {
            "last hour": _share(UNKNOWN, PREDICTIONS, "1h"),
            "last week": _share(UNKNOWN, PREDICTIONS, "7d"),
        },
    ),
    Panel(
        "Batches of a GPU",
        "Images in a batch and how long the device takes for one; empty on a CPU.",
        "short",
        {
            "images in a batch": f"sum(rate(headstart_batch_images_sum[{WINDOW}]))"
            f" / sum(rate(headstart_batch_images_count[{WINDOW}]))",
            "seconds, p95": _quantile(0.95, "headstart_batch_seconds", ""),
        },
    ),
)


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    width = COLUMNS // PER_LINE
    line, place = divmod(number, PER_LINE)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": place * width, "y": line * ROWS_PER_PANEL, "w": width, "h": ROWS_PER_PANEL},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    return {
        "uid": "headstart",
        "title": "Headstart",
        "tags": ["headstart"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": []},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def main() -> None:
    TARGET.write_text(json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
