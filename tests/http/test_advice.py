"""Advice from the real service on images unlike the source: layers, and the call that takes them."""

from pathlib import Path

import httpx

from benchmarks.main_job import multipart
from benchmarks.server import Server


def test_lesions_are_told_from_pets_and_layers_are_recommended(
    server: Server, client: httpx.Client, data_root: Path, photos: dict[str, list[Path]]
) -> None:
    lesions = {
        label: sorted((data_root / "ham10000" / label).glob("*.jpg"))[:12] for label in ("bcc", "nv", "vasc")
    }
    support = [(label, path) for label, paths in lesions.items() for path in paths]
    client.put("/v1/heads/skin?keep_inputs=false", files=multipart(support)).raise_for_status()
    pets = [(label, path) for label, paths in photos.items() for path in paths[:10]]
    client.put("/v1/heads/advised", files=multipart(pets)).raise_for_status()
    computed = server.metric("headstart_embeddings_total", source="computed")

    skin, advised = (client.post(f"/v1/heads/{name}/advise").json() for name in ("skin", "advised"))
    assert (skin["scenario"], skin["similarity"]) == (2, "low")
    assert (advised["scenario"], advised["recommended"]["strategy"]) == (1, "head")
    assert skin["similarity_confidence"] > 0.9
    assert server.metric("headstart_embeddings_total", source="computed") == computed
    plans = {plan["strategy"]: plan for plan in (skin["recommended"], *skin["alternatives"])}
    assert plans["last-blocks"]["next"]["body"] == {"strategy": "last-blocks"}
    assert plans["last-blocks"]["cost"]["minutes"] > 0
    assert "inputs_not_kept" in [warning["code"] for warning in skin["warnings"]]
    assert "inputs_not_kept" not in [warning["code"] for warning in advised["warnings"]]
    step = plans["layers"]["next"]
    trained = client.request(step["method"], step["path"], params=step["query"])
    assert trained.status_code == 201, trained.text
    assert trained.json()["layers"][0] == "embedding"
