"""What was deleted or forgotten is in no table, page, log, blob, memory or later backup."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.backup import back_up
from service.cli import main
from service.config import Settings
from service.embedding.registry import Registry
from service.engine import Engine
from service.store import AnswerLostError, ExtractorRow, KeptAnswer, Once, VersionNotFoundError
from tests.service.backup.homes import TRAIN, require_consistent, started, teach
from tests.service.conftest import batch
from tests.service.images import png

SECRET = png(77)
KEY = hashlib.sha256(SECRET).hexdigest()


def holding(folder: Path, *needles: bytes) -> list[str]:
    """The files below a folder that have one of these bytes."""
    return [
        path.name
        for path in sorted(folder.rglob("*"))
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def vector_of(engine: Engine) -> bytes:
    return engine.embedders.default.cached([KEY])[KEY].tobytes()


def learn_secret(engine: Engine) -> str:
    teach(engine, "pets")
    teach(engine, "others", 10, 14)
    engine.learner.add("others", batch(("dark", SECRET)), train=TRAIN, skip_bad=False)
    added = engine.learner.add("pets", batch(("dark", SECRET)), train=TRAIN, skip_bad=False)
    return added.example_ids[0]


def forget(settings: Settings, *arguments: str) -> str:
    environ = {"HEADSTART_HOME": str(settings.home), "HEADSTART_EXTRACTORS": settings.extractors[0]}
    done = CliRunner().invoke(main, ["forget", *arguments], env=environ)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_forgotten_input_is_nowhere_while_a_server_runs(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(SECRET)
    with started(settings) as engine:
        learn_secret(engine)
        vector = vector_of(engine)
        assert holding(settings.home, SECRET)
        assert holding(settings.home, vector)
        told = forget(settings, str(tmp_path / "secret.png"))
        assert "1 embeddings" in told
        assert "default/pets: 1 examples; versions since: 2" in told
        assert holding(settings.home, SECRET, vector, KEY.encode()) == []
        assert engine.sweeper.sweep() == 1
        assert engine.embedders.default.cached([KEY]) == {}
        assert [event.action for event in engine.store.audit.list(limit=2).items] == ["input.forget"] * 2
        assert engine.store.heads.get("pets").published_version == 2
        assert require_consistent(engine.store) == 2
        back_up(settings, tmp_path / "copy")
        assert holding(tmp_path / "copy", SECRET, vector, KEY.encode()) == []
    assert holding(settings.home, SECRET, vector, KEY.encode()) == []


@pytest.mark.parametrize("whole", [False, True])
def test_a_deleted_one_is_scrubbed_afterwards(settings: Settings, whole: bool) -> None:
    with started(settings) as engine:
        example = learn_secret(engine)
        vector = vector_of(engine)
        engine.store.heads.delete("others")
        if whole:
            engine.store.heads.delete("pets")
        else:
            engine.learner.remove("pets", example, train=None)
        assert holding(settings.home / "blobs", SECRET) == []
        forget(settings, KEY)
        assert holding(settings.home, SECRET, vector, KEY.encode()) == []


def test_versions_that_learned_from_it_go_when_that_is_asked_for(settings: Settings) -> None:
    with started(settings) as engine:
        learn_secret(engine)
        told = forget(settings, KEY, "--retrain", "--delete-versions")
        assert "version 3 is trained without it" in told
        assert [row.number for row in engine.store.versions.list("pets").items] == [3, 1]
        question = batch(("?", png(40)))
        found = engine.predictor.predict("pets", question, version=None, threshold=None, skip_bad=False)
        assert found.version == 3


def test_versions_that_are_deleted_answer_no_more_and_leave_memory(settings: Settings) -> None:
    question = batch(("?", png(40)))
    with started(settings) as engine:
        learn_secret(engine)
        for version in (1, 2):
            engine.predictor.predict("pets", question, version=version, threshold=None, skip_bad=False)
        panel = engine.panels.seat(["pets", "others"], skip=False)
        assert panel.roster.names == ("pets", "others")
        assert (len(engine.heads), len(engine.panel_memory.stacks.keys())) == (3, 1)
        engine.sweeper.sweep()
        assert (len(engine.heads), len(engine.panel_memory.stacks.keys())) == (3, 1)
        forget(settings, KEY, "--delete-versions")
        with pytest.raises(VersionNotFoundError):
            engine.predictor.predict("pets", question, version=2, threshold=None, skip_bad=False)
        engine.sweeper.sweep()
        assert engine.heads.keys() == [(engine.store.heads.get("pets").id, 1)]
        assert engine.panel_memory.stacks.keys() == []


def test_jobs_that_learn_from_it_end_and_answers_that_name_it_are_lost(settings: Settings) -> None:
    with started(settings) as engine:
        learn_secret(engine)
        teach(engine, "elsewhere", 20, 24)
        ids = {name: engine.store.jobs.create(name, "finetune", {}).id for name in ("pets", "elsewhere")}
        for job_id in (*ids.values(), "gone"):
            (settings.home / "jobs" / job_id).mkdir(parents=True)
        for key, body in (
            ("names", b'{"id": "12.png", "sha256": "' + KEY.encode() + b'"}'),
            ("other", b"{}"),
        ):
            once = engine.store.idempotency.claim(key, "f" * 64, lease_s=60, keep_s=600)
            assert isinstance(once, Once)
            engine.store.idempotency.finish(once, KeptAnswer(201, {}, body))
        told = forget(settings, KEY)
        assert "1 kept answers" in told
        assert f"default/pets: job {ids['pets']} is cancelled" in told
        assert [path.name for path in (settings.home / "jobs").iterdir()] == [ids["elsewhere"]]
        assert engine.store.jobs.get(ids["pets"]).state == "cancelled"
        with pytest.raises(AnswerLostError):
            engine.store.idempotency.claim("names", "f" * 64, lease_s=60, keep_s=600)
        assert isinstance(
            engine.store.idempotency.claim("other", "f" * 64, lease_s=60, keep_s=600), KeptAnswer
        )
        assert holding(settings.home, KEY.encode()) == []


def test_memory_keeps_what_the_database_has(engine: Engine) -> None:
    teach(engine, "pets")
    kept = len(engine.embedders.default._memory)
    assert (engine.sweeper.sweep(), len(engine.embedders.default._memory)) == (0, kept)
    engine.store.heads.delete("pets")
    assert engine.sweeper.sweep() == kept == 12


def test_fine_tuned_extractors_that_nobody_needs_are_pruned(settings: Settings, second_folder: Path) -> None:
    with started(settings) as engine:
        registry = Registry.of(settings, engine.store)
        row: ExtractorRow = registry.register(second_folder, {"kind": "finetuned", "head": "pets"})
        engine.learner.replace(
            "pets", batch(("a", png(1)), ("b", png(201))), extractor=row.name, train=TRAIN, skip_bad=False
        )
        environ = {"HEADSTART_HOME": str(settings.home), "HEADSTART_EXTRACTORS": settings.extractors[0]}
        prune = ["extractors", "prune"]
        assert CliRunner().invoke(main, prune, env=environ).output == ""
        engine.store.heads.delete("pets")
        assert "second is removed" in CliRunner().invoke(main, prune, env=environ).output
        assert engine.store.extractors.named("second") is None
