"""Fine-tuning as a job and as a command: what becomes of the head, once with a real network."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.cli import main
from service.config import Settings
from service.engine import Engine
from service.jobs import Presence, Runner, StopSignals, Worker
from service.jobs.finetuning import FinetuneRunner
from service.jobs.job import Job
from service.learning.finetuner import KIND
from service.learning.train_options import TrainOptions
from service.preparation import prepare
from service.schemas.parameters import FinetuneRequest
from service.store import (
    CANCELLED,
    FAILED,
    MULTI_LABEL,
    SUCCEEDED,
    HeadRow,
    JobRow,
    StoreUnavailableError,
    SupportSet,
)
from tests.service.conftest import batch
from tests.service.images import png
from training.finetune.run import Finetuned
from training.heads import FitOptions, fit_head, load_head
from training.image_embedding import ImageEmbedder
from training.manifest import Manifest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[3]
PER_CLASS = 8
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from service.cli import main; main()"


def examples(start: int = 0) -> list[tuple[str, bytes]]:
    return [
        (label, png(256 * number + shade))
        for label, shade in (("dark", 40), ("light", 200))
        for number in range(start, start + PER_CLASS)
    ]


def teach(engine: Engine, name: str = "shades") -> None:
    engine.learner.replace(
        name, batch(*examples()), extractor=None, train=TrainOptions(), skip_bad=False, keep_inputs=True
    )


def work(engine: Engine, runner: Runner | None = None) -> None:
    """Carry out what is queued, in this process."""
    settings = engine.settings
    with Presence(settings.home) as presence, StopSignals() as signals:
        Worker(
            engine.store,
            {KIND: runner or FinetuneRunner(engine)},
            presence,
            signals,
            home=settings.home,
            lease_s=60,
            max_attempts=2,
        ).run(once=True, poll_s=0.1)


def queue(engine: Engine, **options: object) -> JobRow:
    return engine.finetuner.queue("shades", FinetuneRequest.model_validate(options))


def test_a_new_head_on_the_same_extractor_is_a_version_and_registers_nothing(engine: Engine) -> None:
    teach(engine)
    job = queue(engine, strategy="head")
    work(engine)
    done = engine.store.jobs.get(job.id)
    assert (done.state, done.error) == (SUCCEEDED, None)
    assert done.result is not None
    assert (done.result["version"], done.result["published"], done.result["is_better"]) == (2, False, False)
    assert done.result["report"]["held_out"]["count"] == 4
    version = engine.store.versions.get("shades", 2)
    assert (version.options["job"], version.parent_version) == (job.id, 1)
    assert (version.options["layers"], version.options["threshold"]) == ("auto", None)
    assert engine.store.heads.get("shades").published_version == 1
    assert not engine.store.extractors.list()
    assert not list((engine.settings.home / "jobs").iterdir())


class CutOff:
    """Makes the version; the first time, the store does not hear that the job has succeeded."""

    def __init__(self, engine: Engine) -> None:
        self._runner = FinetuneRunner(engine)
        self.attempts = 0

    def run(self, job: Job) -> Mapping[str, Any]:
        self.attempts += 1
        result = self._runner.run(job)
        if self.attempts == 1:
            raise StoreUnavailableError("the database is locked")
        return result


def test_an_attempt_that_ended_after_its_commit_is_not_made_twice(engine: Engine) -> None:
    teach(engine)
    job = queue(engine, strategy="head")
    runner = CutOff(engine)
    work(engine, runner)
    done = engine.store.jobs.get(job.id)
    assert (done.state, done.attempts, runner.attempts) == (SUCCEEDED, 2, 2)
    assert done.result is not None
    assert (done.result["version"], done.result["published"]) == (2, False)
    assert done.result["report"]["held_out"]["count"] == 4
    assert engine.store.heads.get("shades").last_version == 2


def test_examples_that_change_meanwhile_do_not_stop_it_and_are_told_of(engine: Engine) -> None:
    teach(engine)
    queue(engine, strategy="head")
    runner = FinetuneRunner(engine)
    train = runner._train

    def slow(*given: object) -> object:
        engine.learner.add("shades", batch(*examples(50)[:2]), train=None, skip_bad=False)
        return train(*given)  # type: ignore[arg-type]

    runner._train = slow  # type: ignore[method-assign, assignment]
    work(engine, runner)
    version = engine.store.versions.get("shades", 2)
    assert "examples_changed" in [warning["code"] for warning in version.warnings]
    assert version.examples_total == 2 * PER_CLASS


def test_the_result_is_fitted_as_the_head_was(engine: Engine) -> None:
    teach(engine)
    engine.learner.train("shades", TrainOptions(FitOptions(threshold=0.3, transform="l2")))
    queue(engine, strategy="head")
    work(engine)
    options = engine.store.versions.get("shades", 3).options
    assert (options["threshold"], options["transform"]) == (0.3, "l2")
    assert (
        load_head(engine.store.versions.file(engine.store.heads.get("shades").id, 3)).unknown_threshold == 0.3
    )


def test_inputs_that_are_gone_are_a_clear_error(engine: Engine) -> None:
    teach(engine)
    job = queue(engine, strategy="head")
    engine.learner.replace(
        "shades", batch(*examples()), extractor=None, train=None, skip_bad=False, keep_inputs=False
    )
    work(engine)
    error = engine.store.jobs.get(job.id).error
    assert error is not None
    assert error["code"] == "inputs_not_kept"


class Trained(FinetuneRunner):
    """Has trained a network already, to a result that is better; something may happen meanwhile."""

    def __init__(self, engine: Engine, folder: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__(engine)
        self._folder = folder
        self._meanwhile = meanwhile

    def _train(
        self, job: Job, head: HeadRow, support: SupportSet, inputs: list[bytes], fit: FitOptions
    ) -> Finetuned:
        embedder = ImageEmbedder.load(self._folder)
        rows = np.stack([embedder.embed(embedder.decode(data)) for data in inputs])
        digest = embedder.manifest.digest
        self._meanwhile()
        fitted = fit_head(rows, support.labels, extractor_digest=digest)
        return Finetuned(self._folder, fitted, {"strategy": "full"}, is_better=True)


def test_a_better_result_is_published_and_the_head_goes_to_its_extractor(
    engine: Engine, second_folder: Path
) -> None:
    teach(engine)
    job = queue(engine)
    work(engine, Trained(engine, second_folder))
    done = engine.store.jobs.get(job.id)
    digest = Manifest.load(second_folder).digest
    assert done.result == {
        "version": 2,
        "published": True,
        "is_better": True,
        "obstacle": None,
        "extractor": {"name": "second", "digest": digest},
        "report": {"strategy": "full"},
    }
    head = engine.store.heads.get("shades")
    assert (head.published_version, head.extractor_digest) == (2, digest)
    assert engine.store.examples.support_set(head.id).extractor_digest == digest
    added = engine.learner.add("shades", batch(*examples(50)), train=TrainOptions(), skip_bad=False)
    assert (added.version, added.head.extractor_digest) == (3, digest)


def test_a_better_result_waits_if_that_was_asked_for(engine: Engine, second_folder: Path) -> None:
    teach(engine)
    job = queue(engine, publish="never")
    work(engine, Trained(engine, second_folder))
    result = engine.store.jobs.get(job.id).result
    assert result is not None
    assert (result["version"], result["published"], result["is_better"]) == (2, False, True)
    assert engine.store.heads.get("shades").published_version == 1
    engine.store.versions.publish("shades", 2)
    assert engine.store.heads.get("shades").extractor_name == "second"


def test_a_result_that_nobody_can_use_leaves_no_extractor(engine: Engine, second_folder: Path) -> None:
    def replace() -> None:
        engine.learner.replace(
            "shades",
            batch(*examples()),
            extractor=None,
            task=MULTI_LABEL,
            train=None,
            skip_bad=False,
            keep_inputs=True,
        )

    teach(engine)
    job = queue(engine)
    work(engine, Trained(engine, second_folder, replace))
    failed = engine.store.jobs.get(job.id)
    assert failed.error is not None
    assert (failed.state, failed.error["code"]) == (FAILED, "task_mismatch")
    assert not engine.store.extractors.list()

    teach(engine)
    job = queue(engine)
    work(engine, Trained(engine, second_folder, lambda: engine.store.jobs.cancel(job.id)))
    assert engine.store.jobs.get(job.id).state == CANCELLED
    queue(engine)
    work(engine, Trained(engine, second_folder, lambda: engine.store.heads.delete("shades")))
    assert not engine.store.extractors.list()
    assert not list((engine.settings.home / "jobs").iterdir())


@pytest.fixture(scope="module")
def tuned_home(
    lite0_folder: Path, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, JobRow]:
    """A home in which a worker process has trained the last blocks for an epoch, and published nothing."""
    home = tmp_path_factory.mktemp("tuned")
    settings = Settings(home=home, extractors=(str(lite0_folder),), threads=1)
    prepare(settings)
    engine = Engine.start(settings)
    photos = [
        (label, path.read_bytes())
        for label in ("cat", "dog")
        for path in sorted((data_root / "cats_dogs" / label).iterdir())[:PER_CLASS]
    ]
    engine.learner.replace(
        "shades", batch(*photos), extractor=None, train=TrainOptions(), skip_bad=False, keep_inputs=True
    )
    job = queue(engine, epochs=1, batch_size=4)
    environ = {"HEADSTART_HOME": str(home), "HEADSTART_EXTRACTORS": str(lite0_folder), "OMP_NUM_THREADS": "1"}
    command(["worker", "--once"], environ)
    engine.close()
    return settings, job


def command(arguments: list[str], environ: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        check=True,
        capture_output=True,
        text=True,
    )


def test_a_trained_network_is_registered_and_its_version_can_be_published(
    tuned_home: tuple[Settings, JobRow],
) -> None:
    settings, job = tuned_home
    engine = Engine.start(settings)
    done = engine.store.jobs.get(job.id)
    assert (done.state, done.error) == (SUCCEEDED, None)
    assert done.result is not None
    (row,) = engine.store.extractors.list()
    assert (row.name, row.digest) == (done.result["extractor"]["name"], done.result["extractor"]["digest"])
    assert row.origin == {"kind": "finetuned", "head": "shades", "job": job.id}
    assert row.name == f"shades-{job.id[:8]}"
    version = engine.store.versions.get("shades", done.result["version"])
    assert (version.extractor_name, version.extractor_digest) == (row.name, row.digest)
    if not done.result["published"]:
        assert engine.store.heads.get("shades").published_version == 1
        # Every example has its embedding by the new extractor already.
        engine.store.versions.publish("shades", version.number)
    head = engine.store.heads.get("shades")
    assert (head.published_version, head.extractor_digest) == (version.number, row.digest)
    events = engine.store.jobs.events(job.id)
    assert [event.data["epoch"] for event in events if event.data.get("epoch")] == [1]
    assert f"version {version.number} is made" in events[-2].data["message"]
    engine.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images for each class."""
    for number, (label, data) in enumerate(examples()):
        (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / label / f"{number:02}.png").write_bytes(data)
    return tmp_path / "images"


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Callable[..., Result]:
    environ = {"HEADSTART_HOME": str(tmp_path / "home"), "HEADSTART_EXTRACTORS": str(tiny_folder)}
    return lambda *arguments: CliRunner().invoke(main, [str(item) for item in arguments], env=environ)


def test_the_command_writes_extractor_head_and_report(
    run: Callable[..., Result], folder: Path, tmp_path: Path, tiny_folder: Path
) -> None:
    output = tmp_path / "tuned"
    done = run("finetune", folder, "--output", output, "--strategy", "head")
    assert done.exit_code == 0, done.output
    assert "not better beyond doubt" in done.output
    head = load_head((output / "head.safetensors").read_bytes())
    manifest = Manifest.load(output / "extractor")
    assert head.extractor_digest == manifest.digest == Manifest.load(tiny_folder).digest
    assert json.loads((output / "report.json").read_text())["strategy"] == "head"
    assert sorted(path.name for path in output.iterdir()) == ["extractor", "head.safetensors", "report.json"]
    again = run("finetune", folder, "--output", output, "--strategy", "head")
    assert again.exit_code == 1
    assert "has a result already" in again.output
    bad = run("finetune", folder, "--output", tmp_path / "other", "--strategy", "magic")
    assert "strategy: expected one of" in bad.output
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("arguments", [["worker"], ["finetune", str(ROOT), "--output", "x"]])
def test_without_torch_one_line_says_what_to_install(arguments: list[str]) -> None:
    start = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    needs = f"Error: headstart {arguments[0]} needs torch"
    assert done.stderr == f"{needs}: install requirements/export.txt, or the extra `export`\n"
