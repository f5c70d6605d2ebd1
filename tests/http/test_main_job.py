"""What a user does first: post labelled photographs, get a head, ask it, restart, ask again."""

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import openai

from benchmarks.main_job import multipart
from benchmarks.server import Server, running

Photos = dict[str, list[Path]]
Teach = Callable[..., dict]


def curl(*arguments: str) -> dict:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", *arguments], capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_curl_posts_photographs_and_gets_a_published_head(server: Server, photos: Photos) -> None:
    forms = [f"-F{label}=@{path}" for label, paths in photos.items() for path in paths[:10]]
    taught = curl("-X", "PUT", *forms, f"{server.url}/v1/heads/pets")
    assert (taught["version"], taught["published"], taught["classes"]) == (1, True, ["cat", "dog"])
    assert taught["examples"]["total"] == taught["examples"]["added"] == 20
    assert (
        taught["report"]["accuracy_low"] <= taught["report"]["accuracy"] <= taught["report"]["accuracy_high"]
    )

    answer = curl("--data-binary", f"@{photos['dog'][600]}", f"{server.url}/v1/heads/pets/predict")
    assert answer["predictions"][0]["label"] == "dog"
    probabilities = [row["probability"] for row in answer["predictions"][0]["probabilities"]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert abs(sum(probabilities) - 1) < 1e-5


def test_four_input_forms_give_the_same_embedding(client: httpx.Client, photos: Photos) -> None:
    data = photos["cat"][20].read_bytes()
    encoded = base64.b64encode(data).decode()
    answers = [
        client.post("/v1/embeddings", files={"x": ("a.jpg", data)}),
        client.post("/v1/embeddings", content=data, headers={"Content-Type": "image/jpeg"}),
        client.post("/v1/embeddings", json={"input": encoded}),
        client.post("/v1/embeddings", json={"input": f"data:image/jpeg;base64,{encoded}"}),
    ]
    vectors = [answer.json()["data"][0]["embedding"] for answer in answers]
    assert len(vectors[0]) == 1280
    assert all(vector == vectors[0] for vector in vectors[1:])


def test_the_openai_client_works(server: Server, photos: Photos) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
        images = [base64.b64encode(path.read_bytes()).decode() for path in photos["dog"][:2]]
        default = client.embeddings.create(model="efficientnet-lite0", input=images)
        floats = client.embeddings.create(model="efficientnet-lite0", input=images, encoding_format="float")
    assert [item.index for item in default.data] == [0, 1]
    np.testing.assert_array_equal(
        np.array([item.embedding for item in default.data], np.float32),
        np.array([item.embedding for item in floats.data], np.float32),
    )


def test_a_restart_changes_nothing(lite0_folder: Path, tmp_path: Path, photos: Photos) -> None:
    support = [(label, path) for label, paths in photos.items() for path in paths[:5]]
    asked = multipart([("x", path) for paths in photos.values() for path in paths[50:60]])
    paths = (
        "/v1/heads/pets",
        "/v1/heads/pets/examples",
        "/v1/heads/pets/versions",
        "/v1/heads/pets/versions/2",
    )

    def state(client: httpx.Client) -> list[object]:
        predicted = client.post("/v1/heads/pets/predict", files=asked).json()["predictions"]
        return [predicted, *(client.get(path).json() for path in paths)]

    with running(tmp_path, extractor=lite0_folder) as server, server.client() as client:
        client.put("/v1/heads/pets", files=multipart(support)).raise_for_status()
        client.post("/v1/heads/pets/train", json={"regularisation": 2.0}).raise_for_status()
        before = state(client)
    with running(tmp_path, extractor=lite0_folder) as server, server.client() as client:
        assert state(client) == before
        again = client.put("/v1/heads/again", files=multipart(support)).json()
        assert (again["examples"]["embedded"], again["examples"]["cached"]) == (0, 10)
        assert server.metric("headstart_embeddings_total", source="computed") == 0


def test_examples_are_added_relabelled_and_removed(
    client: httpx.Client, teach: Teach, photos: Photos
) -> None:
    teach("edited")
    added = client.post("/v1/heads/edited/examples", files=multipart([("bird", photos["dog"][30])])).json()
    assert (added["version"], added["classes"]) == (2, ["bird", "cat", "dog"])
    example = added["examples"]["ids"][0]
    assert client.get(f"/v1/heads/edited/examples/{example}").json()["label"] == "bird"

    relabelled = client.patch(f"/v1/heads/edited/examples/{example}", json={"label": "dog"}).json()
    assert (relabelled["version"], relabelled["classes"]) == (3, ["cat", "dog"])
    removed = client.delete(f"/v1/heads/edited/examples/{example}").json()
    assert (removed["version"], removed["examples"]["total"]) == (4, 10)
    assert client.get(f"/v1/heads/edited/examples/{example}").status_code == 404


def test_a_change_equals_a_head_made_from_scratch(client: httpx.Client, teach: Teach, photos: Photos) -> None:
    teach("grown", 0, 4)
    client.post(
        "/v1/heads/grown/examples", files=multipart([(label, paths[4]) for label, paths in photos.items()])
    ).raise_for_status()
    teach("scratch", 0, 5)
    asked = multipart([("x", path) for paths in photos.values() for path in paths[70:80]])
    grown, scratch = (
        client.post(f"/v1/heads/{name}/predict", files=asked).json()["predictions"]
        for name in ("grown", "scratch")
    )
    assert grown == scratch


def test_versions_roll_back_and_forward(client: httpx.Client, teach: Teach, photos: Photos) -> None:
    teach("rolled")
    client.post("/v1/heads/rolled/train", json={"regularisation": 2.0}).raise_for_status()
    asked = photos["cat"][40].read_bytes()

    def predict(**query: int) -> dict:
        answer = client.post("/v1/heads/rolled/predict", content=asked, params=query).json()
        return {"version": answer["version"], "probability": answer["predictions"][0]["probability"]}

    newest = predict()
    first = predict(version=1)
    assert newest["version"] == 2
    assert first["probability"] != newest["probability"]
    assert client.post("/v1/heads/rolled/versions/1/publish").json()["published_version"] == 1
    assert predict() == first
    client.post("/v1/heads/rolled/versions/2/publish").raise_for_status()
    assert predict() == newest


def test_a_training_that_is_not_published_changes_no_prediction(client: httpx.Client, teach: Teach) -> None:
    teach("quiet")
    trained = client.post("/v1/heads/quiet/train", json={"publish": False}).json()
    assert (trained["version"], trained["published"]) == (2, False)
    assert client.get("/v1/heads/quiet").json()["published_version"] == 1


def test_options_of_training_are_query_parameters_or_keys_of_the_body(
    client: httpx.Client, teach: Teach
) -> None:
    teach("optional")
    trained = client.post("/v1/heads/optional/train?publish=false&transform=l2").json()
    assert (trained["published"], trained["report"]["transform"]) == (False, "l2")
    both = client.post("/v1/heads/optional/train?transform=l2", json={"transform": "signed_root_l2"}).json()
    assert (both["published"], both["report"]["transform"]) == (True, "signed_root_l2")


def test_a_duplicate_changes_nothing_and_under_another_label_is_a_conflict(
    client: httpx.Client, teach: Teach, photos: Photos
) -> None:
    teach("twice")
    same = client.post("/v1/heads/twice/examples", files=multipart([("cat", photos["cat"][0])]))
    assert same.json()["examples"] | {"ids": None} == {
        "total": 10, "added": 0, "duplicates": 1, "embedded": 0, "cached": 1, "rejected": [], "ids": None
    }  # fmt: skip
    assert client.get("/v1/heads/twice").json()["last_version"] == 1
    other = client.post("/v1/heads/twice/examples", files=multipart([("dog", photos["cat"][0])]))
    assert other.status_code == 409
    error = other.json()["error"]
    assert (error["code"], error["existing"]["label"]) == ("label_conflict", "cat")
    assert client.get(f"/v1/heads/twice/examples/{error['existing']['id']}").json()["label"] == "cat"


def test_a_zip_with_a_folder_for_each_class_makes_a_head(
    client: httpx.Client, tmp_path: Path, photos: Photos
) -> None:
    import zipfile

    archive = tmp_path / "pets.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for label, paths in photos.items():
            for path in paths[:3]:
                bundle.write(path, f"pets/{label}/{path.name}")
    taught = client.put("/v1/heads/zipped", content=archive.read_bytes()).json()
    assert (taught["classes"], taught["examples"]["total"]) == (["cat", "dog"], 6)


def test_a_head_can_start_from_one_raw_body(client: httpx.Client, photos: Photos) -> None:
    photo = photos["cat"][0].read_bytes()
    path = "/v1/heads/raw"
    asked = client.put(path, content=photo).json()["error"]
    assert asked["code"] == "label_required"
    assert "?label=" in asked["message"]
    taught = client.put(f"{path}?label=cat&train=false", content=photo)
    assert (taught.status_code, taught.json()["examples"]["total"]) == (201, 1)


def test_heads_are_listed_a_page_at_a_time_and_deleted(client: httpx.Client, teach: Teach) -> None:
    for name in ("page-a", "page-b", "page-c"):
        teach(name, 0, 2)
    first = client.get("/v1/heads", params={"limit": 2, "cursor": "page-"}).json()
    assert [head["head"] for head in first["heads"]] == ["page-a", "page-b"]
    second = client.get("/v1/heads", params={"limit": 2, "cursor": first["next"]}).json()
    assert second["heads"][0]["head"] == "page-c"
    assert client.delete("/v1/heads/page-b").status_code == 204
    assert client.get("/v1/heads/page-b").json()["error"]["code"] == "head_not_found"
    assert client.delete("/v1/heads/page-b").status_code == 404
    assert teach("page-b", 0, 2)["version"] == 1


def test_every_worker_answers_with_the_new_state(server: Server, photos: Photos) -> None:
    """Each request on a connection of its own, so that the workers take turns."""
    support = {label: multipart([(label, path) for path in paths[:3]]) for label, paths in photos.items()}
    for version in range(1, 21):
        with server.client() as client:
            if version == 1:
                client.put("/v1/heads/fresh", files=support["cat"] + support["dog"]).raise_for_status()
            else:
                client.post("/v1/heads/fresh/train").raise_for_status()
        for _ in range(4):
            with server.client() as client:
                asked = client.post("/v1/heads/fresh/predict", content=photos["cat"][9].read_bytes())
            assert asked.json()["version"] == version


def test_metrics_count_over_all_workers(server: Server, photos: Photos) -> None:
    before = server.metric("headstart_requests_total", route="/v1/embeddings", status="200")
    for path in photos["cat"][:8]:
        with server.client() as client:
            client.post("/v1/embeddings", content=path.read_bytes()).raise_for_status()
    assert server.metric("headstart_requests_total", route="/v1/embeddings", status="200") == before + 8


def test_nothing_of_bentoml_answers(client: httpx.Client) -> None:
    for path in (
        "/docs.json",
        "/schema.json",
        "/static_content/swagger-ui.css",
        "/predict",
        "/task",
        "/is_ready",
    ):
        for method in ("GET", "POST"):
            answer = client.request(method, path)
            assert answer.status_code == 404, (method, path)
            assert answer.json()["error"]["code"] == "not_found"
    assert "bentoml" not in " ".join(client.get("/").headers.values()).lower()


def test_health_and_pages(client: httpx.Client) -> None:
    assert client.get("/livez").json() == client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    assert ready["extractors"][0]["provider"] == "CPUExecutionProvider"
    for path in ("/", "/docs", "/assets/swagger-ui-bundle.js", "/openapi.json", "/metrics"):
        assert client.get(path).status_code == 200, path
    assert client.get("/assets/..%2Fapi.py").status_code == 404
