"""What holds for the methods of every path."""

import httpx


def test_head_is_get_without_a_body(client: httpx.Client) -> None:
    for path in (
        "/",
        "/docs",
        "/livez",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/v1/heads",
        "/v1/extractors",
    ):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    assert client.head("/").headers["Content-Length"] == str(len(client.get("/").content))
    assert client.head("/v1/heads/nobody").status_code == 404
    assert client.head("/v1/embeddings").status_code == 405


def test_a_wrong_method_is_told_all_right_ones(client: httpx.Client) -> None:
    for path, methods in (
        ("/", "GET, HEAD"),
        ("/v1/heads/pets", "DELETE, GET, HEAD, PUT"),
        ("/v1/heads/pets/examples", "DELETE, GET, HEAD, PATCH, POST"),
        (f"/v1/heads/pets/examples/{'0' * 32}", "DELETE, GET, HEAD, PATCH"),
    ):
        answer = client.options(path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, methods)


def test_a_slash_too_many_is_not_found(client: httpx.Client) -> None:
    """A redirect would lead to whatever host the request named, and a PUT would lose its body on the way."""
    for path in ("/v1/heads/", "/v1/heads/pets/", "/docs/"):
        answer = client.get(path, headers={"Host": "elsewhere.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
