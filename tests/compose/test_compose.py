"""compose.yaml as docker-compose reads it. What the stack does is in tests/stack."""

import re
import subprocess
import sys

import pytest

from service.config import Settings
from tests.compose.conftest import composed

WITH_GPU = ("compose.yaml", "compose.gpu.yaml")


@pytest.mark.parametrize("files", [("compose.yaml",), WITH_GPU])
def test_it_is_valid(files: tuple[str, ...]) -> None:
    services = composed(*files)["services"]
    assert set(services) == {"headstart", "postgres", "s3", "bucket", "prometheus", "grafana"}
    # No tag that moves between two starts, and a size of Debian is none.
    assert all(
        re.search(r":(v?\d[\w.-]*|RELEASE\.\S+|cpu|gpu)$", service["image"]) for service in services.values()
    )


def test_the_service_has_only_settings_that_it_knows_and_no_more_rights_than_it_needs() -> None:
    service = composed("compose.yaml")["services"]["headstart"]
    settings = Settings.from_env(service["environment"])
    assert settings.database_url == "postgresql://headstart:change-me-1@postgres/headstart"
    assert settings.blob_url == "s3://headstart"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(re.sub(r"\D", "", service["stop_grace_period"])) > settings.shutdown_timeout_s


def test_each_server_and_the_service_have_the_same_password() -> None:
    services = composed("compose.yaml")["services"]
    service, postgres, s3 = (services[name]["environment"] for name in ("headstart", "postgres", "s3"))
    assert f":{postgres['POSTGRES_PASSWORD']}@postgres/" in service["HEADSTART_DATABASE_URL"]
    assert s3["MINIO_ROOT_PASSWORD"] == service["AWS_SECRET_ACCESS_KEY"]
    assert s3["MINIO_ROOT_USER"] == service["AWS_ACCESS_KEY_ID"]


def test_nothing_is_reached_from_other_machines_by_default() -> None:
    services = composed("compose.yaml")["services"].values()
    published = [port for service in services for port in service.get("ports", [])]
    assert published
    assert all(str(port).startswith("127.0.0.1:") for port in published), published


def test_the_bucket_is_made_once(s3_environ: dict[str, str]) -> None:
    from fsspec import filesystem

    (script,) = composed("compose.yaml")["services"]["bucket"]["command"]
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script], env=s3_environ, check=True)
    s3 = filesystem("s3", key="headstart", secret="x", endpoint_url=s3_environ["AWS_ENDPOINT_URL"])
    assert s3.ls("") == ["headstart"]
