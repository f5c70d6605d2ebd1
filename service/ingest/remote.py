"""Inputs behind http(s) URLs, fetched without letting a client reach into the server's own network.

A host is resolved once, every address it has must be allowed, and the connection goes to exactly such
an address, so a name that changes its answer (DNS rebinding) gains nothing. Redirects are followed by
hand and judged the same way. No proxy, cookie, credential or environment variable takes part.
Knows nothing of what the content is.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

import anyio
import httpx

from service.config import Settings
from service.errors import ApiError
from service.ingest.address import is_public
from service.ingest.batch import BatchBuilder, Link, input_too_large

MAX_REDIRECTS = 3
MAX_URLS = 256
MAX_URL_CHARS = 8192
CONCURRENT_FETCHES = 8
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DEFAULT_PORTS = {"http": 80, "https": 443}
REQUEST_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "headstart"}

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the order the system prefers. Raises OSError."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@cache
def _public_tls() -> ssl.SSLContext:
    # Loading the certificate authorities takes 10 ms and more, so it is done once.
    return httpx.create_ssl_context(trust_env=False)


@dataclass(frozen=True)
class RemotePolicy:
    """Where fetching may go.

    Attributes
    ----------
    is_allowed : whether a connection to an IP address may be made.
    resolve : host and port to IP addresses; raises OSError.
    ports : the ports of URLs; other ports are where internal services listen.
    tls : the certificate authorities that are trusted.
    """

    is_allowed: Callable[[str], bool] = is_public
    resolve: Resolver = resolve
    ports: frozenset[int] | None = frozenset(DEFAULT_PORTS.values())
    tls: Callable[[], ssl.SSLContext] = _public_tls


PUBLIC_WEB = RemotePolicy()


async def fetch_links(builder: BatchBuilder, policy: RemotePolicy = PUBLIC_WEB) -> None:
    """Fetch every link of a batch, a few at a time; each becomes an input or an item error.

    Raises
    ------
    ApiError
        413 `too_many_inputs` above 256 URLs in one request.
    """
    if len(builder.links) > MAX_URLS:
        message = f"a request can have {MAX_URLS} URLs, got {len(builder.links)}"
        raise ApiError(413, "too_many_inputs", message)
    fetcher = _Fetcher(builder.settings, policy)
    turns = anyio.CapacityLimiter(CONCURRENT_FETCHES)

    async def settle(link: Link) -> None:
        async with turns:
            try:
                data = await fetcher.fetch(link.url)
            except ApiError as error:
                builder.reject(link.slot, error)
            else:
                builder.settle(link.slot, data)

    async with anyio.create_task_group() as group:
        for link in builder.links:
            group.start_soon(settle, link)


class _Fetcher:
    """Fetches the URLs of one request, which share one allowance of bytes."""

    def __init__(self, settings: Settings, policy: RemotePolicy) -> None:
        self._policy = policy
        self._timeout_s = settings.fetch_timeout_s
        self._max_bytes = settings.max_input_bytes
        self._bytes_left = settings.max_body_bytes

    async def fetch(self, text: str) -> bytes:
        """The content of a URL.

        Raises
        ------
        ApiError
            422 `url_refused`: somewhere this server does not go; 422 `url_failed`: no answer, an answer
            other than 200, or none in time; 413 `input_too_large`.
        """
        try:
            with anyio.fail_after(self._timeout_s):
                return await self._follow(text)
        except TimeoutError:
            raise _failed(f"no complete answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.StreamError, ssl.SSLError, OSError) as error:
            # The type only: a message could tell about the network around this server.
            raise _failed(f"the connection failed ({type(error).__name__})") from None

    async def _follow(self, text: str) -> bytes:
        url = self._checked(text)
        for _ in range(MAX_REDIRECTS + 1):
            transport = httpx.AsyncHTTPTransport(verify=self._policy.tls(), trust_env=False)
            async with transport:
                response = await self._send(transport, url)
                try:
                    location = self._location(response)
                    if location is None:
                        return await self._read(response)
                finally:
                    await response.aclose()
            url = self._checked(location, url)
        raise _refused(f"more than {MAX_REDIRECTS} redirects")

    def _checked(self, text: str, base: httpx.URL | None = None) -> httpx.URL:
        if len(text) > MAX_URL_CHARS:
            raise _refused(f"a URL can have {MAX_URL_CHARS} characters, got {len(text)}")
        try:
            url = httpx.URL(text) if base is None else base.join(text)
        except (httpx.InvalidURL, ValueError, TypeError):
            raise _refused("it is not a valid URL") from None
        if url.scheme not in DEFAULT_PORTS or not url.host:
            raise _refused("expected http:// or https:// and a host")
        if url.userinfo:
            raise _refused("a URL with a user name or password is not fetched")
        if self._policy.ports is not None and _port(url) not in self._policy.ports:
            ports = " or ".join(str(port) for port in sorted(self._policy.ports))
            raise _refused(f"expected port {ports}, got {url.port}")
        return url

    async def _send(self, transport: httpx.AsyncHTTPTransport, url: httpx.URL) -> httpx.Response:
        addresses = await self._addresses(url)
        for address in addresses[:-1]:
            try:
                return await transport.handle_async_request(self._request(url, address))
            except httpx.ConnectError:
                continue  # a host may have an IPv6 address that this machine has no way to
        return await transport.handle_async_request(self._request(url, addresses[-1]))

    async def _addresses(self, url: httpx.URL) -> Sequence[str]:
        try:
            addresses = await self._policy.resolve(url.raw_host.decode("ascii"), _port(url))
        except (OSError, UnicodeError):
            addresses = ()
        if not addresses:
            raise _failed("its host name cannot be resolved")
        if not all(self._policy.is_allowed(address) for address in addresses):
            raise _refused("its host is not on the public internet")
        return addresses

    def _request(self, url: httpx.URL, address: str) -> httpx.Request:
        limits_s = dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s)
        return httpx.Request(
            "GET",
            url.copy_with(host=address, fragment=None),
            headers={"Host": url.netloc.decode("ascii"), "Connection": "close", **REQUEST_HEADERS},
            extensions={"sni_hostname": url.raw_host.decode("ascii"), "timeout": limits_s},
        )

    def _location(self, response: httpx.Response) -> str | None:
        if response.status_code == httpx.codes.OK:
            return None
        if response.status_code in REDIRECTS and "location" in response.headers:
            return str(response.headers["location"])
        raise _failed(f"the server answered {response.status_code}")

    async def _read(self, response: httpx.Response) -> bytes:
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed("the server answered with a Content-Encoding that was not asked for")
        received: list[bytes] = []
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            self._bytes_left -= len(chunk)
            if size > self._max_bytes:
                raise input_too_large(self._max_bytes)
            if self._bytes_left < 0:
                message = "the URLs of the request hold more than one body may (HEADSTART_MAX_BODY_BYTES)"
                raise ApiError(413, "input_too_large", message)
            received.append(chunk)
        return b"".join(received)


def _port(url: httpx.URL) -> int:
    return DEFAULT_PORTS[url.scheme] if url.port is None else url.port


def _refused(reason: str) -> ApiError:
    return ApiError(422, "url_refused", f"the URL is not fetched: {reason}")


def _failed(reason: str) -> ApiError:
    return ApiError(422, "url_failed", f"the URL could not be fetched: {reason}")
