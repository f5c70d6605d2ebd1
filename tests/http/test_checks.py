"""A wrong label, a copy and a stray image among real photographs are found, and corrected, over REST."""

import io
from pathlib import Path

import httpx
from PIL import Image

from benchmarks.main_job import multipart
from benchmarks.server import Server

Photos = dict[str, list[Path]]


def _re_encoded(path: Path) -> bytes:
    stream = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(stream, "JPEG", quality=80)
    return stream.getvalue()


def test_what_is_wrong_with_examples_is_found(
    server: Server, client: httpx.Client, photos: Photos, data_root: Path
) -> None:
    support = [(label, path) for label, paths in photos.items() for path in paths[:30]]
    wrong, stray = photos["dog"][40], sorted((data_root / "ham10000" / "mel").glob("*.jpg"))[0]
    support += [("cat", wrong), ("dog", stray)]
    taught = client.put("/v1/heads/checked", files=multipart(support)).json()
    copy = client.post(
        "/v1/heads/checked/examples", files=[("dog", ("copy.jpg", _re_encoded(photos["cat"][3])))]
    ).json()
    ids, computed = taught["examples"]["ids"], server.metric("headstart_embeddings_total", source="computed")

    found = client.get("/v1/heads/checked/checks").json()
    assert (found["head"], found["version"], found["examples"]) == ("checked", 2, 63)
    suspects = {error["id"]: error for error in found["label_errors"][:3]}
    error = suspects[ids[60]]
    assert (error["label"], error["suggested"]) == ("cat", "dog")
    assert error["probability_given"] < 0.2 < 0.8 < error["probability_suggested"]
    assert error["score"] == 1 - error["probability_given"]
    names = dict(
        zip([*ids, *copy["examples"]["ids"]], [*(label for label, _ in support), "dog"], strict=True)
    )
    group = found["duplicates"][0]
    assert set(group["ids"]) == {ids[3], copy["examples"]["ids"][0]}
    assert [names[example] for example in group["ids"]] == group["labels"]
    assert group["conflicting"]
    assert ids[61] in [outlier["id"] for outlier in found["outliers"][:2]]
    assert found["totals"]["duplicates"] == len(found["duplicates"]) == 1
    assert server.metric("headstart_embeddings_total", source="computed") == computed

    shortened = client.get("/v1/heads/checked/checks", params={"limit": 1}).json()
    assert shortened["totals"] == found["totals"]
    assert shortened["label_errors"] == found["label_errors"][:1]
    client.patch(f"/v1/heads/checked/examples/{ids[60]}", json={"label": "dog"}).raise_for_status()
    again = client.get("/v1/heads/checked/checks").json()
    assert ids[60] not in [error["id"] for error in again["label_errors"]]


def test_inputs_of_several_labels_are_checked_once(client: httpx.Client, photos: Photos) -> None:
    """Under its second label an input is no copy of itself."""
    support = [(label, path) for label, paths in photos.items() for path in paths[:8]]
    support += [("animal", path) for paths in photos.values() for path in paths[:8]]
    client.put("/v1/heads/both?task=multi_label", files=multipart(support)).raise_for_status()
    copy = [("cat", ("copy.jpg", _re_encoded(photos["cat"][3])))]
    client.post("/v1/heads/both/examples", files=copy).raise_for_status()
    found = client.get("/v1/heads/both/checks").json()
    assert (found["examples"], found["label_errors"]) == (33, [])
    (group,) = found["duplicates"]
    assert sorted(group["labels"]) == ["animal", "cat", "cat"]
    assert len(set(group["ids"])) == 3


def test_what_cannot_be_checked_has_its_documented_error(client: httpx.Client, photos: Photos) -> None:
    absent = client.get("/v1/heads/nowhere/checks")
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "head_not_found")
    one = multipart([("cat", path) for path in photos["cat"][:2]])
    client.put("/v1/heads/one-class?train=false", files=one).raise_for_status()
    few = client.get("/v1/heads/one-class/checks")
    assert (few.status_code, few.json()["error"]["code"]) == (422, "too_few_classes")
    limit = client.get("/v1/heads/one-class/checks?limit=0")
    assert (limit.status_code, limit.json()["error"]["param"]) == (422, "limit")
