"""The guide to the API names every route and every error code, and no other."""

import re
from pathlib import Path

from service.api import create_app
from service.config import Settings
from service.errors import STATUS_OF_ERROR

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "guide" / "api.md").read_text()
# Found when a server starts, by a command, or only in a bug: no client meets them.
NOT_OF_THE_API = {
    "backup_damaged", "backup_failed", "blob_not_found", "cluster_unavailable", "device_busy",
    "device_unavailable", "duplicate_example", "embedding_not_found", "exposed", "extractor_exists",
    "extractor_in_use", "headstart_error", "home_in_use", "home_not_empty", "invalid_blob_url",
    "invalid_database_url",
    "invalid_extractor", "invalid_tenant", "job_lost", "job_stopped", "key_not_found", "store_error",
    "tenant_exists", "tenant_not_found", "tracing_unavailable", "weights_unavailable",
}  # fmt: skip


def codes_in_source() -> set[str]:
    found = set()
    for path in [*ROOT.glob("service/**/*.py"), *ROOT.glob("training/**/*.py")]:
        text = path.read_text()
        found |= set(re.findall(r'ApiError\(\s*\d{3},\s*"([a-z_]+)"', text))
        found |= set(re.findall(r'^    code(?:: ClassVar\[str\])? = "([a-z_]+)"', text, re.MULTILINE))
    return found | {"not_found", "method_not_allowed"}


def test_every_error_code_is_in_the_guide_and_no_other() -> None:
    rows = [line.split("|") for line in GUIDE.splitlines() if re.match(r"\| [45]\d\d \|", line)]
    documented = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row[2])}
    assert documented == codes_in_source() - NOT_OF_THE_API


def test_the_status_of_a_code_is_the_one_in_the_guide() -> None:
    for line in GUIDE.splitlines():
        if row := re.match(r"\| (\d{3}) \|([^|]*)\|", line):
            for kind, status in STATUS_OF_ERROR.items():
                if f"`{kind.code}`" in row[2]:
                    assert status == int(row[1]), kind.code


def test_every_route_is_in_the_guide() -> None:
    table = GUIDE.split("\n\n")[2]
    for path in create_app(Settings()).openapi()["paths"]:
        shown = path.replace("{example_id}", "{id}").replace("{job_id}", "{id}")
        assert f"{shown}`" in table or f"{shown.removeprefix('/v1/heads/{name}')}`" in table, path
