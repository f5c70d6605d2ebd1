"""Dashboard and alerts: every query is PromQL, and asks for what a server has. Run by `make test-compose`."""

import json
import re
from pathlib import Path

import pytest
import yaml

from deploy.compose.grafana.dashboard import TARGET, dashboard
from tests.compose.conftest import PROMETHEUS, Labels, run

SELECTOR = re.compile(r"\b(headstart_[a-z_]+)(?:\{([^}]*(?:\{[^}]*\}[^}]*)*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


def test_the_dashboard_is_what_the_code_writes() -> None:
    assert json.loads(TARGET.read_text()) == dashboard()


def test_every_query_is_promql(queries: dict[str, str], tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries.values())]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(queries)} rules found" in run("promtool", "check", "rules", file)


def test_every_query_asks_for_metrics_and_labels_that_a_server_has(
    queries: dict[str, str], samples: dict[str, list[Labels]]
) -> None:
    asked = 0
    for place, query in queries.items():
        for name, matchers in SELECTOR.findall(query):
            asked += 1
            assert name in samples, f"{place} asks for {name}"
            for label, operator, value in MATCHER.findall(matchers):
                values = {labels.get(label) for labels in samples[name]}
                assert values != {None}, f"{place} asks {name} for the label {label}"
                # Failures are what this server has not had.
                if operator == "=" and label != "status":
                    assert value in values, f"{place} asks {name} for {label}={value}; there are {values}"
                if operator == "=~" and label != "status":
                    assert any(re.fullmatch(value, found or "") for found in values), (place, value, values)
    assert asked > len(queries)


def test_a_query_for_what_is_not_there_would_be_noticed(samples: dict[str, list[Labels]]) -> None:
    with pytest.raises(AssertionError, match="headstart_head_count"):
        test_every_query_asks_for_metrics_and_labels_that_a_server_has({"x": "headstart_head_count"}, samples)
    query = 'rate(headstart_stage_seconds_sum{stage="wait"}[5m])'
    with pytest.raises(AssertionError, match="wait"):
        test_every_query_asks_for_metrics_and_labels_that_a_server_has({"x": query}, samples)


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    run("promtool", "check", "config", PROMETHEUS / "prometheus.yaml")
    assert "SUCCESS" in run("promtool", "test", "rules", PROMETHEUS / "alerts.test.yaml")


def test_every_alert_has_a_test_that_it_fires_and_is_explained() -> None:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
    names = {rule["alert"] for rule in group["rules"]}
    tests = yaml.safe_load((PROMETHEUS / "alerts.test.yaml").read_text())["tests"]
    fired = {
        case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")
    }
    assert fired == names
    guide = (PROMETHEUS.parents[2] / "docs" / "guide" / "monitoring.md").read_text()
    assert names == set(re.findall(r"^\| `(Headstart\w+)` \|", guide, re.MULTILINE))
