"""Fetching URLs, against a real HTTP server on loopback; what is refused never reaches it."""

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import orjson
import pytest

from service.config import Settings
from service.errors import ApiError
from service.ingest import Batch, RemotePolicy, read_batch
from service.ingest.address import is_public
from service.ingest.remote import CONCURRENT_FETCHES, MAX_URLS
from tests.service.ingest.asking import JSON, SMALL, faults, form, make_request, part, read, read_json

FETCHING = replace(SMALL, fetch_urls=True, fetch_timeout_s=20.0, max_inputs=1000)
IMAGE = b"\xff\xd8 a picture"


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass
class Site:
    """A server that answers each path with prepared bytes and remembers what it was asked."""

    pages: dict[str, bytes | Callable[[], Awaitable[bytes]]]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1]
            self.asked.append(path)
            self.hosts += [line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")]
            page = self.pages.get(path, b"HTTP/1.1 404 No\r\nContent-Length: 4\r\n\r\nnope")
            writer.write(page if isinstance(page, bytes) else await page())
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def serving(site: Site, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    server = await asyncio.start_server(site.answer, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    async with server:
        yield site


async def to_loopback(host: str, port: int) -> Sequence[str]:
    return ("127.0.0.1",)


LOOPBACK = RemotePolicy(is_allowed=lambda address: address == "127.0.0.1", resolve=to_loopback, ports=None)


def fetch(
    site: Site,
    *urls: str,
    policy: RemotePolicy = LOOPBACK,
    settings: Settings = FETCHING,
    tls: ssl.SSLContext | None = None,
) -> Batch:
    """Ask for URLs, in which PORT stands for the port of the site."""

    async def main() -> Batch:
        async with serving(site, tls):
            ready = [url.replace("PORT", str(site.port)) for url in urls]
            site.pages = {
                path: page.replace(b"PORT", str(site.port).encode()) if isinstance(page, bytes) else page
                for path, page in site.pages.items()
            }
            request = make_request(orjson.dumps({"input": ready}), JSON)
            return await read_batch(request, settings, labelled=False, policy=policy)

    return anyio.run(main)


def outcome(site: Site, url: str, **kwargs: Any) -> tuple[int, str]:
    """Status and code of the one item error that a URL leads to."""
    batch = fetch(site, url, **kwargs)
    assert batch.inputs == ()
    return faults(batch)[0][1:]


def test_urls_are_off_by_default() -> None:
    batch = read_json({"input": ["http://pets.example/cat.jpg", "AAAA"]}, labelled=False)
    assert faults(batch) == [(0, 422, "urls_disabled")]
    assert len(batch.inputs) == 1
    assert faults(
        read(form(part("cat", b"https://x.example/", None)), "multipart/form-data; boundary=a-boundary")
    )


def test_a_url_gives_its_bytes_with_its_place_label_and_id() -> None:
    async def main() -> None:
        async with serving(Site({"/cat.jpg?x=1": ok(IMAGE)})) as site:
            url = f"http://pets.example:{site.port}/cat.jpg?x=1#part"
            examples = [{"input": "AAAA", "label": "a"}, {"input": url, "label": "cat", "id": "x"}]
            request = make_request(orjson.dumps({"examples": [*examples, examples[0]]}), JSON)
            batch = await read_batch(request, FETCHING, labelled=True, policy=LOOPBACK)
            assert [(i.index, i.label, i.id) for i in batch.inputs] == [
                (0, "a", None),
                (1, "cat", "x"),
                (2, "a", None),
            ]
            assert batch.inputs[1].data == IMAGE
            assert site.hosts == [f"pets.example:{site.port}"]

    anyio.run(main)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "2130706433",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_the_default_policy_reaches_no_server_on_this_machine(host: str) -> None:
    site = Site({"/": ok(b"secret")})
    status, code = outcome(site, f"http://{host}:PORT/", policy=RemotePolicy(ports=None))
    assert (status, code) in {
        (422, "url_refused"),
        (422, "url_failed"),
    }  # failed: no such name to this resolver
    assert site.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://pets.example/a",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "http://",
        "http:///path",
        "http://user@pets.example/",
        "http://user:pw@pets.example/",
        "http://pets.example:0/",
        "http://pets.example:22/",
        "https://pets.example:8443/",
        "http://pets.example:99999/",
        "http://[::1/",
        "http://pets.example/\x00",
        "http://pets.example/" + "a" * 9000,
    ],
)
def test_urls_that_go_elsewhere_than_the_public_web_are_refused(url: str) -> None:
    async def never(host: str, port: int) -> Sequence[str]:
        raise AssertionError("resolved a URL that is to be refused")

    policy = RemotePolicy(resolve=never)
    assert faults(read_json({"input": url}, labelled=False, settings=FETCHING, policy=policy)) == [
        (0, 422, "url_refused")
    ]


def test_one_private_address_among_several_refuses_the_host() -> None:
    async def mixed(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.1", "10.0.0.1")

    site = Site({"/": ok(IMAGE)})
    policy = replace(LOOPBACK, resolve=mixed)
    assert outcome(site, "http://x.example:PORT/", policy=policy) == (422, "url_refused")
    assert site.asked == []


def test_a_host_is_resolved_once_for_each_hop() -> None:
    answers = [("127.0.0.1",), ("10.0.0.1",)]

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return answers.pop(0)

    policy = replace(LOOPBACK, resolve=rebinding)
    assert fetch(Site({"/": ok(IMAGE)}), "http://x.example:PORT/", policy=policy).inputs[0].data == IMAGE
    assert len(answers) == 1


def test_a_redirect_is_judged_anew() -> None:
    async def by_name(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.1",) if host == "x.example" else ("169.254.169.254",)

    site = Site(
        {
            "/metadata": redirect("http://metadata.example/latest"),
            "/file": redirect("file:///etc/passwd"),
            "/login": redirect("http://a:b@x.example/"),
        }
    )
    policy = replace(LOOPBACK, resolve=by_name)
    for path in site.pages:
        assert outcome(site, f"http://x.example:PORT{path}", policy=policy) == (422, "url_refused")


def test_redirects_are_followed_three_times_and_no_more() -> None:
    pages = {f"/{i}": redirect(f"/{i - 1}", 300 + i) for i in (1, 2, 3)}
    pages |= {"/0": ok(IMAGE), "/4": redirect("http://y.example:PORT/3", 307)}
    three, four = Site(dict(pages)), Site(dict(pages))
    assert fetch(three, "http://x.example:PORT/3").inputs[0].data == IMAGE
    assert three.asked == ["/3", "/2", "/1", "/0"]
    assert outcome(four, "http://x.example:PORT/4") == (422, "url_refused")
    assert four.asked == ["/4", "/3", "/2", "/1"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 Empty\r\n\r\n",
        b"HTTP/1.1 302 Nowhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntruncated",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        ok(IMAGE, "Content-Encoding: gzip"),
    ],
)
def test_an_answer_that_is_no_content_is_a_failure(answer: bytes) -> None:
    batch = fetch(Site({"/": answer}), "http://x.example:PORT/")
    assert faults(batch) == [(0, 422, "url_failed")]
    assert "127.0.0.1" not in batch.rejected[0].message


def test_an_empty_answer_is_an_empty_input() -> None:
    assert outcome(Site({"/": ok(b"")}), "http://x.example:PORT/") == (422, "empty_input")


def test_a_host_that_cannot_be_resolved_or_reached_is_a_failure() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("Name or service not known")

    policy = replace(LOOPBACK, resolve=unknown)
    assert outcome(Site({}), "http://x.example/", policy=policy) == (422, "url_failed")
    assert outcome(Site({}), "http://x.example:1/") == (422, "url_failed")


def test_the_next_address_is_tried_when_the_first_does_not_answer() -> None:
    async def two(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.2", "127.0.0.1")

    policy = replace(LOOPBACK, resolve=two, is_allowed=lambda address: address.startswith("127."))
    assert fetch(Site({"/": ok(IMAGE)}), "http://x.example:PORT/", policy=policy).inputs[0].data == IMAGE


def test_an_answer_over_the_limit_is_too_large_with_or_without_a_length() -> None:
    large = bytes(FETCHING.max_input_bytes + 1)
    chunked = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
    )
    for answer in (ok(large), b"HTTP/1.1 200 OK\r\n\r\n" + large, chunked):
        assert outcome(Site({"/": answer}), "http://x.example:PORT/") == (413, "input_too_large")


def test_the_urls_of_a_request_share_the_limit_of_a_body() -> None:
    page = bytes(FETCHING.max_input_bytes)
    count = FETCHING.max_body_bytes // len(page) + 3
    batch = fetch(Site({"/": ok(page)}), *["http://x.example:PORT/"] * count)
    assert sum(len(item.data) for item in batch.inputs) <= FETCHING.max_body_bytes
    assert {code for _, _, code in faults(batch)} == {"input_too_large"}


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_a_server_that_stalls_is_left_in_time(start: bytes) -> None:
    async def main() -> None:
        done = asyncio.Event()

        async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(start)
            await done.wait()
            writer.close()

        server = await asyncio.start_server(stall, "127.0.0.1", 0)
        async with server:
            url = f"http://x.example:{server.sockets[0].getsockname()[1]}/"
            request = make_request(orjson.dumps({"input": url}), JSON)
            settings = replace(FETCHING, fetch_timeout_s=0.2)
            batch = await read_batch(request, settings, labelled=False, policy=LOOPBACK)
            assert faults(batch) == [(0, 422, "url_failed")]
            assert "0.2 s" in batch.rejected[0].message
            done.set()

    anyio.run(main)


def test_urls_are_fetched_together_but_only_a_few_at_a_time() -> None:
    active: list[str] = []
    most: list[int] = []
    full = asyncio.Event()

    async def resolve(host: str, port: int) -> Sequence[str]:
        active.append(host)
        most.append(len(active))
        if len(active) == CONCURRENT_FETCHES:
            full.set()
        await full.wait()  # until the time limit, if they were fetched one after the other
        await anyio.lowlevel.checkpoint()  # lets any further one in, before the eighth leaves
        active.remove(host)
        return ("127.0.0.1",)

    urls = ["http://x.example:PORT/"] * 30
    batch = fetch(Site({"/": ok(IMAGE)}), *urls, policy=replace(LOOPBACK, resolve=resolve))
    assert len(batch.inputs) == 30
    assert max(most) == CONCURRENT_FETCHES


def test_more_urls_than_allowed_refuse_the_request() -> None:
    with pytest.raises(ApiError) as caught:
        fetch(Site({}), *["http://x.example:PORT/"] * (MAX_URLS + 1))
    assert (caught.value.status, caught.value.code) == (413, "too_many_inputs")


def test_proxies_of_the_environment_take_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch(Site({"/": ok(IMAGE)}), "http://x.example:PORT/").inputs[0].data == IMAGE


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for pets.example, with its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "pets.pem"
    subject = ["-subj", "/CN=pets.example", "-addext", "subjectAltName=DNS:pets.example", "-days", "2"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run(
        [*make, *subject, "-keyout", path, "-out", path.with_suffix(".crt")], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


def test_tls_checks_the_certificate_against_the_name_and_sends_it(certificate: Path) -> None:
    names: list[str | None] = []
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(certificate)
    server_tls.sni_callback = lambda _, name, __: names.append(name)
    trusting = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
    policy = replace(LOOPBACK, tls=lambda: trusting)

    def ask(host: str, policy: RemotePolicy) -> Batch:
        return fetch(Site({"/": ok(IMAGE)}), f"https://{host}:PORT/", policy=policy, tls=server_tls)

    assert ask("pets.example", policy).inputs[0].data == IMAGE
    assert names == ["pets.example"]
    assert faults(ask("other.example", policy)) == [(0, 422, "url_failed")]
    assert faults(ask("pets.example", LOOPBACK)) == [(0, 422, "url_failed")]


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.1.2.3",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::",
    "2002:c0a8:101::1",
    "2001:0:808:808:0:0:f5ff:fffe",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "localhost",
    "127.1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)
