"""The runner of fine-tuning: kept inputs of a head in, a registered extractor and a version of the head out.

Knows how a run is begun, taken up again and made the head's. Does not know how a network is trained.
"""

import hashlib
import shutil
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.embedding.embedder import Embedder
from service.embedding.precision import precision_with_digest
from service.embedding.registry import Registry
from service.engine import Engine
from service.errors import ApiError
from service.jobs.job import Job, StoppedError
from service.learning.finetuner import PUBLISH, require_kept, require_trainable
from service.learning.learner import MAX_ATTEMPTS, conflict
from service.learning.train_options import TrainOptions
from service.moving.adoption import Adopted, adopt
from service.store import (
    Caller,
    ExtractorExistsError,
    HeadNotFoundError,
    HeadRow,
    InputNotKeptError,
    StoreUnavailableError,
    SupportSet,
    VersionRow,
)
from training.errors import FinetuneStoppedError, HeadstartError
from training.finetune import FinetuneOptions, Progress, finetune
from training.heads import AUTO, FitOptions
from training.manifest import EMBEDDING, Manifest

if TYPE_CHECKING:
    from training.finetune.run import Finetuned

NEWEST_VERSIONS = 100  # among which that of an earlier attempt is looked for
MAX_NAME_OF_HEAD = 100  # in the name of an extractor
EXAMPLES_CHANGED = {
    "code": "examples_changed",
    "message": "The examples were changed during the training: the version knows them as they were before.",
}


class FinetuneRunner:
    """Carries out jobs of the kind `finetune`.

    Parameters
    ----------
    engine : of this process; its settings name the extractors that are not registered.
    """

    def __init__(self, engine: Engine) -> None:
        self._use(engine)

    def run(self, job: Job) -> Mapping[str, Any]:
        """Carry out a job for its tenant."""
        of_tenant = copy(self)
        of_tenant._use(self._engine.of(Caller(tenant=job.row.tenant, actor=f"worker {job.row.worker}")))
        return of_tenant._run(job)

    def _use(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._registry = Registry.of(engine.settings, engine.store)

    def _run(self, job: Job) -> Mapping[str, Any]:
        head = self._head_of(job)
        made = self._made_before(job, head)
        if made is not None:
            job.log("an earlier attempt made the version already")
            return _result_of(made, head)
        support, inputs = self._inputs_of(job, head)
        fit = self._fit_of(head)
        finetuned = self._train(job, head, support, inputs, fit)
        job.require_held()
        return self._adopt(job, head, support, finetuned, fit)

    def _head_of(self, job: Job) -> HeadRow:
        head = self._store.heads.get(job.row.head)
        if head.id != job.row.head_id:
            raise HeadNotFoundError(job.row.head)
        return head

    def _made_before(self, job: Job, head: HeadRow) -> VersionRow | None:
        """The version of an attempt that ended between its commit and the word that it had succeeded."""
        newest = self._store.versions.list(head.name, limit=NEWEST_VERSIONS)
        return next((row for row in newest.items if row.options.get("job") == job.row.id), None)

    def _inputs_of(self, job: Job, head: HeadRow) -> tuple[SupportSet, list[bytes]]:
        """The examples of one moment and their inputs, in the same order."""
        for _ in range(MAX_ATTEMPTS):
            support = self._store.examples.support_set(head.id)
            require_trainable(head, support)
            readers = self._store.inputs.of(head.id)
            require_kept(head, support.keys, readers)
            try:
                inputs = []
                for key in support.keys:
                    if job.should_stop():
                        raise StoppedError("stopped while the inputs were read")
                    inputs.append(readers[key]())
                return support, inputs
            except InputNotKeptError:
                continue  # an example was removed meanwhile
        raise conflict()

    def _fit_of(self, head: HeadRow) -> FitOptions:
        """How the head is fitted now; on the best layers if it only uses the embedding."""
        newest = self._store.versions.newest(head.id, head.extractor_digest)
        layers = self._engine.embedders.with_digest(head.extractor_digest).extractor.layer_dims
        fit = TrainOptions(said=frozenset()).of_task(head.task).after(newest, layers).fit
        return replace(fit, layers=AUTO) if fit.layers == (EMBEDDING,) else fit

    def _train(
        self, job: Job, head: HeadRow, support: SupportSet, inputs: list[bytes], fit: FitOptions
    ) -> "Finetuned":
        options = {key: value for key, value in job.row.options.items() if key != PUBLISH}

        def tell(progress: Progress) -> None:
            job.progress(
                progress.stage,
                progress.fraction,
                epoch=progress.epoch,
                epochs=progress.epochs,
                figures=progress.figures,
                message=progress.message,
            )

        try:
            return finetune(
                inputs,
                support.labels,
                source=self._source_of(head),
                run_folder=_run_folder(job, support),
                options=FinetuneOptions.from_dict(options),
                fit=fit,
                name=f"{head.name[:MAX_NAME_OF_HEAD]}-{job.row.id[:8]}",
                progress=tell,
                should_stop=job.should_stop,
            )
        except FinetuneStoppedError as error:
            raise StoppedError(str(error)) from error

    def _source_of(self, head: HeadRow) -> Path:
        """The local folder of the extractor of the head.

        Raises
        ------
        ApiError
            409: it is neither one of the settings' nor registered.
        """
        for name in self._engine.settings.extractors:
            folder = self._engine.settings.extractor_folder(name)
            if precision_with_digest(folder, head.extractor_digest) is not None:
                return folder
        row = self._store.extractors.with_digest(head.extractor_digest)
        if row is None:
            message = f"the extractor {head.extractor_name!r} of the head is not there for the worker"
            raise ApiError(409, "extractor_mismatch", message)
        return self._registry.fetch(row)

    def _adopt(
        self, job: Job, head: HeadRow, support: SupportSet, finetuned: "Finetuned", fit: FitOptions
    ) -> Mapping[str, Any]:
        embedder = self._embedder_of(job, head, finetuned)
        now = self._store.examples.support_set(head.id)
        is_changed = (now.keys, now.labels) != (support.keys, support.labels)
        wanted = finetuned.is_better and job.row.options[PUBLISH] == "better"
        try:
            adopted = adopt(
                self._store,
                embedder,
                head.name,
                finetuned.head,
                publish=wanted,
                head_id=head.id,
                options={
                    **fit.as_dict(),
                    "job": job.row.id,
                    "finetune": dict(job.row.options),
                    "finetuned": {"is_better": finetuned.is_better, **finetuned.report},
                },
                warnings=[EXAMPLES_CHANGED] if is_changed else [],
                examples_total=len(support),
            )
        except StoreUnavailableError:
            raise  # perhaps after the commit; the next attempt finds out
        except (HeadstartError, ApiError):
            self._take_back(job, embedder)
            raise
        job.log(_verdict(adopted, finetuned))
        return _result(adopted, embedder, finetuned)

    def _embedder_of(self, job: Job, head: HeadRow, finetuned: "Finetuned") -> Embedder:
        """The embedder that the version needs: of the new extractor, now registered, or the head's own."""
        digest = finetuned.head.extractor_digest
        if digest != head.extractor_digest:
            self._register(job, finetuned.folder)
        return self._engine.embedders.with_digest(digest)

    def _register(self, job: Job, folder: Path) -> None:
        origin = {"kind": "finetuned", "head": job.row.head, "job": job.row.id}
        try:
            self._registry.register(folder, origin, tenant=job.row.tenant)
        except ExtractorExistsError:
            name = Manifest.load(folder).name
            there = self._store.extractors.named(name)
            if there is None or there.origin.get("job") != job.row.id:
                raise
            job.log("the extractor of an earlier attempt makes way for this one's")
            self._registry.remove(name)
            self._registry.register(folder, origin, tenant=job.row.tenant)

    def _take_back(self, job: Job, embedder: Embedder) -> None:
        """Remove an extractor that no version came to need."""
        row = self._store.extractors.with_digest(embedder.extractor.digest)
        if row is not None and row.origin.get("job") == job.row.id:
            self._registry.remove(row.name)


def _run_folder(job: Job, support: SupportSet) -> Path:
    """The folder of the run on just these examples; those of earlier ones are removed."""
    content = "\n".join(f"{key} {label}" for key, label in zip(support.keys, support.labels, strict=True))
    name = hashlib.sha256(f"{support.extractor_digest}\n{content}".encode()).hexdigest()[:16]
    for folder in job.folder.iterdir():
        if folder.name != name:
            job.log("the examples have changed since the earlier attempt: it starts over")
            shutil.rmtree(folder)
    return job.folder / name


def _verdict(adopted: Adopted, finetuned: "Finetuned") -> str:
    made = f"version {adopted.version} is made"
    if adopted.published:
        return f"{made} and published"
    if adopted.obstacle is not None:
        return f"{made} and not published: {adopted.obstacle}"
    if finetuned.is_better:
        return f"{made} and not published, as was asked for"
    return f"{made} and not published: it is not better beyond doubt"


def _result(adopted: Adopted, embedder: Embedder, finetuned: "Finetuned") -> dict[str, Any]:
    return {
        "version": adopted.version,
        "published": adopted.published,
        "is_better": finetuned.is_better,
        "obstacle": adopted.obstacle,
        "extractor": {"name": embedder.extractor.name, "digest": embedder.extractor.digest},
        "report": dict(finetuned.report),
    }


def _result_of(version: VersionRow, head: HeadRow) -> dict[str, Any]:
    report = dict(version.options["finetuned"])
    return {
        "version": version.number,
        "published": version.number == head.published_version,
        "is_better": report.pop("is_better"),
        "obstacle": None,
        "extractor": {"name": version.extractor_name, "digest": version.extractor_digest},
        "report": report,
    }
