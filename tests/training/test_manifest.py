"""An extractor folder says what it is, or says what is wrong with it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.images import SPEC
from training.errors import ManifestError
from training.manifest import FILES, FORMAT_VERSION, Input, Manifest, Output, Tap, Weights, sha256_of


def make_manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "export_version": 1,
        "name": "tiny",
        "modality": "image",
        "architecture": "none",
        "weights": Weights("nowhere", "0" * 64, "Apache-2.0"),
        "input": Input(224, 224),
        "preprocess": replace(SPEC, steps=("Look at it.",)),
        "output": Output(8),
        "taps": (Tap("stage2", 3), Tap("stage3", 4)),
        "opset": 18,
        "files": {FILES.model: "1" * 64, FILES.golden: "2" * 64},
    }
    return Manifest(**(values | changes))


def write(folder: Path, content: Any) -> None:
    (folder / FILES.manifest).write_text(json.dumps(content))


def saved(folder: Path) -> dict[str, Any]:
    make_manifest().save(folder)
    content: dict[str, Any] = json.loads((folder / FILES.manifest).read_text())
    return content


def test_round_trip(tmp_path: Path) -> None:
    manifest = make_manifest()
    manifest.save(tmp_path)
    loaded = Manifest.load(tmp_path)
    assert loaded == manifest
    assert loaded.digest == manifest.digest


def test_the_digest_is_that_of_the_canonical_text(tmp_path: Path) -> None:
    """Anyone can compute it from the file, without this project."""
    content = saved(tmp_path)
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert Manifest.load(tmp_path).digest == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"export_version": 2},
        {"weights": Weights("nowhere", "3" * 64, "Apache-2.0")},
        {"preprocess": replace(SPEC, mean=(127.0, 127.0, 127.5))},
        {"taps": (Tap("stage3", 4), Tap("stage2", 3))},
        {"files": {FILES.model: "1" * 64, FILES.golden: "3" * 64}},
    ],
)
def test_every_change_changes_the_digest(change: dict[str, Any]) -> None:
    assert make_manifest(**change).digest != make_manifest().digest


def test_the_order_and_layout_of_the_text_do_not(tmp_path: Path) -> None:
    content = saved(tmp_path)
    write(tmp_path, dict(reversed(content.items())))
    assert Manifest.load(tmp_path).digest == make_manifest().digest


def test_no_folder_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="headstart export resnet50"):
        Manifest.load(tmp_path / "resnet50")


def keys_of(content: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of the manifest, nested ones too."""
    found = []
    for key, value in content.items():
        found.append((*prefix, key))
        if isinstance(value, dict) and key != "files":
            found += keys_of(value, (*prefix, key))
    return found


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    content = saved(tmp_path)
    for path in keys_of(content):
        damaged = json.loads(json.dumps(content))
        parent = damaged
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
        write(tmp_path, damaged)
        with pytest.raises(ManifestError, match=f"key {'.'.join(path)} is missing"):
            Manifest.load(tmp_path)


def test_every_key_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    content = saved(tmp_path)
    for path in keys_of(content):
        if path == ("format_version",):  # has its own message
            continue
        damaged = json.loads(json.dumps(content))
        parent = damaged
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = True
        write(tmp_path, damaged)
        with pytest.raises(ManifestError, match=f"key {'.'.join(path)}: expected .*, found true"):
            Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        (("colour",), 1, "colour is unknown"),
        (("weights", "colour"), 1, "weights.colour is unknown"),
        (("name",), "../up", "name"),
        (("modality",), "smell", "modality: expected 'image'|modality: expected one of 'image'"),
        (("input", "dtype"), "float32", "input.dtype"),
        (("input", "height"), 225, "preprocess.crop_height"),
        (("output", "dim"), 0, "output.dim"),
        (("taps",), [{"name": "stage2", "dim": 0}], "taps"),
        (("taps",), [{"name": "stage2", "dim": 3}, {"name": "stage2", "dim": 3}], "taps"),
        (("taps",), [{"name": "embedding", "dim": 3}], "taps"),
        (("taps",), [{"name": "a,b", "dim": 3}], "taps"),
        (("taps",), [{"name": "stage2"}], r"taps\[0\].dim is missing"),
        (("preprocess", "resize_short_side_px"), 223, "preprocess.resize_short_side_px"),
        (("preprocess", "resize_short_side_px"), None, "preprocess.resize_short_side_px"),
        (("preprocess", "resize"), "exact", "preprocess.resize_short_side_px"),
        (("preprocess", "mean"), [1.0, 2.0], "preprocess.mean: expected a list of 3"),
        (("preprocess", "mean"), [1.0, 2.0, "3"], r"preprocess.mean\[2\]"),
        (("preprocess", "std"), [1.0, 2.0, 0.0], "preprocess.std"),
        (("files", "../model.onnx"), "1" * 64, "files"),
        (("files", FILES.model), "abc", "files"),
        (("weights", "sha256"), "abc", "weights.sha256"),
    ],
)
def test_values_that_cannot_be_are_named(tmp_path: Path, path: tuple[str, ...], value: Any, key: str) -> None:
    content = saved(tmp_path)
    parent = content
    for name in path[:-1]:
        parent = parent[name]
    parent[path[-1]] = value
    write(tmp_path, content)
    with pytest.raises(ManifestError, match=f"key {key}"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("name", [FILES.model, FILES.golden])
def test_files_without_which_nothing_works_must_be_listed(name: str) -> None:
    files = {n: "1" * 64 for n in (FILES.model, FILES.golden) if n != name}
    with pytest.raises(ManifestError, match=name):
        make_manifest(files=files)


def test_whole_numbers_do_as_means(tmp_path: Path) -> None:
    content = saved(tmp_path)
    content["preprocess"]["mean"] = [127, 127, 127]
    write(tmp_path, content)
    assert Manifest.load(tmp_path) == make_manifest()


def test_another_format_version(tmp_path: Path) -> None:
    """Its keys may be others: only the version is complained about."""
    write(tmp_path, {"format_version": FORMAT_VERSION + 1, "other": 1})
    with pytest.raises(ManifestError, match=rf"format_version is {FORMAT_VERSION + 1}.*headstart export"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff"])
def test_what_is_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / FILES.manifest).write_text(text)
    with pytest.raises(ManifestError, match=r"not JSON|expected an object"):
        Manifest.load(tmp_path)


def test_files_are_compared_with_their_digests(tmp_path: Path) -> None:
    model, golden = tmp_path / FILES.model, tmp_path / FILES.golden
    model.write_bytes(b"graph")
    golden.write_bytes(b"vectors")
    manifest = make_manifest(files={FILES.model: sha256_of(model), FILES.golden: sha256_of(golden)})
    manifest.verify_files(tmp_path)
    golden.write_bytes(b"vectorz")
    with pytest.raises(ManifestError, match=f"{FILES.golden} was altered"):
        manifest.verify_files(tmp_path)
    golden.unlink()
    with pytest.raises(ManifestError, match=f"{FILES.golden} is missing"):
        manifest.verify_files(tmp_path)


def test_a_manifest_cannot_be_changed(tmp_path: Path) -> None:
    files = {FILES.model: "1" * 64, FILES.golden: "2" * 64}
    manifest = make_manifest(files=files)
    files[FILES.model] = "3" * 64
    assert manifest.files[FILES.model] == "1" * 64
    with pytest.raises(TypeError):
        manifest.files[FILES.model] = "3" * 64  # type: ignore[index]


def test_a_row_is_the_embedding_and_then_the_taps() -> None:
    manifest = make_manifest()
    assert manifest.width == 8 + 3 + 4
    assert list(manifest.layer_dims.items()) == [("embedding", 8), ("stage2", 3), ("stage3", 4)]
    assert make_manifest(taps=()).width == 8
