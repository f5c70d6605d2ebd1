"""/metrics says what the database has: heads, and how accurate the published ones are."""

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service.config import Settings
from service.store.database import Database
from tests.service.api.conftest import Teach


def gauges(client: TestClient, name: str) -> dict[str, float]:
    """The samples of a metric by the label that it has, or by "" if it has none."""
    return {
        next(iter(sample.labels.values()), ""): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def test_heads_and_the_accuracy_of_what_is_published(client: TestClient, teach: Teach) -> None:
    assert gauges(client, "headstart_heads") == {"": 0}
    assert gauges(client, "headstart_published_accuracy") == {}
    taught = [teach(f"head{number}", number, number + 6) for number in range(3)]
    accuracies = sorted(answer["report"]["accuracy"] for answer in taught)
    assert gauges(client, "headstart_heads") == {"": 3}
    expected = {"0": accuracies[0], "0.1": accuracies[0], "0.5": accuracies[1]}
    assert gauges(client, "headstart_published_accuracy") == expected


def test_a_head_that_has_never_been_judged_has_no_accuracy(client: TestClient, teach: Teach) -> None:
    answer = teach("single", 0, 1)
    assert answer["report"]["accuracy"] is None
    assert gauges(client, "headstart_heads") == {"": 1}
    assert gauges(client, "headstart_published_accuracy") == {}


def test_no_name_of_a_head_is_told(client: TestClient, teach: Teach) -> None:
    teach("confidential")
    client.get("/v1/heads/confidential").raise_for_status()
    assert "confidential" not in client.get("/metrics").text


def test_metrics_answer_without_the_database(client: TestClient, teach: Teach, settings: Settings) -> None:
    teach("pets")
    database = Database(settings.resolved_database_url)
    with database.migrating() as connection:
        connection.execute(text("alter table heads rename to hidden"))
    database.close()
    found = client.get("/metrics")
    assert found.status_code == 200
    assert "headstart_requests_total" in found.text
    assert gauges(client, "headstart_heads") == {}


def test_what_has_not_happened_yet_is_counted_as_none(client: TestClient) -> None:
    text = client.get("/metrics").text
    for source in ("computed", "memory", "store"):
        assert f'headstart_embeddings_total{{source="{source}"}}' in text
    for unknown in ("true", "false"):
        assert f'headstart_predictions_total{{unknown="{unknown}"}}' in text
