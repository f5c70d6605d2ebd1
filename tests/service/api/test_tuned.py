"""Heads on a really fine-tuned extractor: whatever is said of them rests on inputs that it has not seen."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient

from service.api import create_app
from service.cli import main
from service.config import Settings
from service.embedding.extractor import Extractor
from service.preparation import prepare
from tests.conftest import CELLS_PER_CLASS, blood_cells
from training.errors import ManifestError
from training.finetune import Progress
from training.finetune.run import Finetuned
from training.manifest import FILES
from training.tuned import TunedOn

pytestmark = pytest.mark.long

WARNED = "tuned_on_these_examples"
Labelled = list[tuple[str, tuple[str, bytes]]]


@pytest.fixture(scope="module")
def folder(tuned_cells: tuple[Finetuned, list[Progress]]) -> Path:
    return tuned_cells[0].folder


@pytest.fixture(scope="module")
def seen(folder: Path, cells: tuple[list[bytes], list[str]]) -> Labelled:
    """What the extractor was trained on."""
    keys = TunedOn.load(folder).inputs
    return [one for one in _files(cells) if hashlib.sha256(one[1][1]).hexdigest() in keys]


@pytest.fixture(scope="module")
def fresh(data_root: Path) -> Labelled:
    """Four of each class that it was not trained on."""
    return _files(blood_cells(data_root, CELLS_PER_CLASS, CELLS_PER_CLASS + 4))


def _files(labelled: tuple[list[bytes], list[str]]) -> Labelled:
    return [(label, (f"{at}.jpg", data)) for at, (data, label) in enumerate(zip(*labelled, strict=True))]


@pytest.fixture(scope="module")
def client(
    folder: Path, lite0_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, extractors=(str(lite0_folder), str(folder)), threads=2)
    prepare(settings)
    with TestClient(create_app(settings)) as client:
        yield client


def put(client: TestClient, name: str, files: Labelled, query: str = "extractor=cells") -> dict:
    response = client.put(f"/v1/heads/{name}?{query}", files=files)
    assert response.status_code == 201, response.text
    return response.json()


def codes(answer: dict) -> set[str]:
    return {warning["code"] for warning in answer["warnings"]}


def test_an_extractor_knows_what_it_was_trained_on(folder: Path, seen: Labelled, tmp_path: Path) -> None:
    keys = {hashlib.sha256(data).hexdigest() for _, (_, data) in seen}
    assert Extractor.load(folder).tuned_on.inputs == keys
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    TunedOn().save(copy)
    with pytest.raises(ManifestError, match=f"{FILES.tuned} was altered"):
        Extractor.load(copy)


def test_a_head_of_nothing_else_is_not_judged_until_there_are_others(
    client: TestClient, seen: Labelled, fresh: Labelled
) -> None:
    made = put(client, "cells", seen)
    report = made["report"]
    assert (report["accuracy"], report["accuracy_low"], report["calibration_error"]) == (None, None, None)
    assert (report["held_out"], report["examples"]) == (0, len(seen))
    assert {WARNED, "not_validated"} <= codes(made)
    assert client.get("/v1/heads/cells/versions").json()["versions"][0]["accuracy"] is None
    added = client.post("/v1/heads/cells/examples", files=fresh).json()
    assert (added["report"]["held_out"], added["report"]["examples"]) == (len(fresh), len(seen) + len(fresh))
    assert 0 <= added["report"]["accuracy_low"] < added["report"]["accuracy"] <= 1
    if len(fresh) < 30:
        (told,) = (one["message"] for one in added["warnings"] if one["code"] == WARNED)
        assert f"on {len(seen)} of {len(seen) + len(fresh)} examples" in told
    listed = client.get("/v1/heads/cells/examples?limit=1000").json()["examples"]
    one = next(row["id"] for row in listed if row["sha256"] not in keys_of(seen))
    relabelled = client.delete(f"/v1/heads/cells/examples/{one}").json()
    assert relabelled["report"]["held_out"] == len(fresh) - 1
    trained = client.post("/v1/heads/cells/train?layers=auto").json()
    assert trained["report"]["held_out"] == len(fresh) - 1


def keys_of(files: Labelled) -> set[str]:
    return {hashlib.sha256(data).hexdigest() for _, (_, data) in files}


def test_a_move_there_compares_what_neither_was_trained_on(
    client: TestClient, seen: Labelled, fresh: Labelled
) -> None:
    put(client, "moving", [*seen, *fresh], "extractor=efficientnet-lite0&keep_inputs=true")
    moved = client.post("/v1/heads/moving/move", json={"extractor": "cells", "switch": "always"}).json()
    assert moved["comparison"]["paired"]["held_out"] == moved["report"]["held_out"] == len(fresh)
    assert moved["comparison"]["before"]["held_out"] == len(seen) + len(fresh)
    assert moved["comparison"]["better"] in (True, False)
    back = client.post(
        "/v1/heads/moving/move", json={"extractor": "efficientnet-lite0", "switch": "always"}
    ).json()
    assert back["comparison"]["paired"]["held_out"] == len(fresh)
    assert back["report"]["held_out"] == len(seen) + len(fresh)
    put(client, "known", seen, "extractor=efficientnet-lite0&keep_inputs=true")
    moved = client.post("/v1/heads/known/move", json={"extractor": "cells"}).json()
    assert (moved["comparison"]["paired"], moved["comparison"]["better"]) == (None, None)
    assert (moved["switched"], moved["report"]["accuracy"]) == (False, None)


def test_checks_judge_only_what_it_has_not_seen(client: TestClient, seen: Labelled, fresh: Labelled) -> None:
    labels = sorted({label for label, _ in seen})
    other = dict(zip(labels, [*labels[1:], labels[0]], strict=True))
    wrong = [(other[label], file) for label, file in (seen[0], fresh[0])]
    put(client, "checked", [*wrong, *seen[1:], *fresh[1:]])
    found = client.get("/v1/heads/checked/checks?limit=1000").json()
    assert found["tuned_on"] == len(seen)
    rows = client.get("/v1/heads/checked/examples?limit=1000").json()["examples"]
    key_of = {row["id"]: row["sha256"] for row in rows}
    doubted = {key_of[item["id"]] for item in [*found["label_errors"], *found["outliers"]]}
    assert not doubted & keys_of(seen)
    assert keys_of(fresh[:1]) <= doubted


def test_advice_and_evaluation_say_so(client: TestClient, seen: Labelled, fresh: Labelled) -> None:
    put(client, "advised", [*seen, *fresh])
    advice = client.post("/v1/heads/advised/advise").json()
    assert WARNED in codes(advice)
    assert advice["figures"]["tuned_on"] == len(seen)
    heads = advice["figures"]["heads"]
    assert {head["held_out"] for head in heads.values()} == {len(fresh)}
    assert all(layer["log_me"] is not None for layer in advice["figures"]["layers"])
    put(client, "advised", seen)
    advice = client.post("/v1/heads/advised/advise").json()
    assert (advice["enough_data"], advice["figures"]["heads"]["embedding"]["accuracy"]) == (False, None)
    assert {layer["log_me"] for layer in advice["figures"]["layers"]} == {None}
    assert "add examples that the extractor has not seen" in advice["summary"]
    put(client, "evaluated", fresh)
    found = client.post("/v1/heads/evaluated/evaluate", files=seen).json()
    assert codes(found) == {"tuned_on_these_inputs"}


def test_commands_on_a_folder_say_so(
    folder: Path, seen: Labelled, lite0_folder: Path, tmp_path: Path
) -> None:
    for label, (name, data) in seen:
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / label / name).write_bytes(data)
    (tmp_path / "home" / "extractors").mkdir(parents=True)
    (tmp_path / "home" / "extractors" / "cells").symlink_to(folder)
    (tmp_path / "home" / "extractors" / "efficientnet-lite0").symlink_to(lite0_folder)
    environment = {"HEADSTART_HOME": str(tmp_path / "home")}
    advised = CliRunner().invoke(
        main, ["advise", str(tmp_path / "images"), "--extractor", "cells"], env=environment
    )
    assert advised.exit_code == 0, advised.output
    assert f"trained on {len(seen)} of {len(seen)} examples" in " ".join(advised.output.split())
    compared = CliRunner().invoke(
        main,
        ["compare", str(tmp_path / "images"), "--backbones", "efficientnet-lite0,cells", "--shots", "1"],
        env=environment,
    )
    assert f"it was trained on {len(seen)} of these {len(seen)} images" in " ".join(compared.output.split())
