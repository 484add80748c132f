"""One file by HTTP, whole or not at all: gone on with after anything that interrupts it, and compared with its hash."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from centerclip_pl.data.download.partial import Partial, Version, in_units, unwritable
from centerclip_pl.data.download.records import Record, verified
from centerclip_pl.errors import DataError

if TYPE_CHECKING:
    from requests import Response, Session

_CHUNK = 1 << 20  # bytes
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses that another try may not meet
_TRIES_UNANSWERED = 3  # no network at all is soon said; later on, it is waited for
_CHANGES = 3  # how often a file may change on the server while it is fetched


@dataclass(frozen=True)
class Patience:
    """How long to go on: `tries` in a row that bring nothing new, `timeout` seconds of silence in each, and a wait
    between them that begins with `first_wait` seconds and doubles up to `longest_wait`."""

    tries: int = 8
    timeout: float = 60.0
    first_wait: float = 1.0
    longest_wait: float = 60.0


class _AgainError(Exception):
    """Another try may succeed, after `wait` seconds where the server asked for them."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def fetch(
    url: str, path: Path, *, digest: str | None = None, copies: int = 1, patience: Patience | None = None
) -> Record:
    """Fetch a file, unless it is there; go on with what an earlier call left.

    A file has its final name only once it is whole: as long as the server said, and of the right hash. The SHA-256 of
    the first time is kept in ``NAME.json`` and compared from then on, also where the file has been deleted in between.
    A server that ignores ranges, or whose file has changed since, makes it start anew; so does one that gives neither
    an ETag nor a date, unless the hash is known.

    What cannot be found out without a published hash: a server that announces fewer bytes than the file has, and sends
    as many as it announced. Archives show it when they are unpacked.

    Args:
        url: with http or https; redirections are followed, though not from https to http.
        path: where the file is to be; its folder is made.
        digest: the published hash, e.g. ``"md5:9bdb20fc..."`` or ``"sha256:..."``; None: none is known.
        copies: how many times the size must be free on the disk: 2 where the file is unpacked afterwards.
        patience: when to give up.

    Raises:
        DataError: the file cannot be had, is not what it was, or does not fit on the disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error
    if path.is_file():
        return verified(path, Version(url), digest)
    with Partial(path, url) as partial:
        version = _Fetching(partial, path.name, digest, copies, patience or Patience()).run()
        try:
            record = verified(partial.path, version, digest, path)
        except DataError:
            partial.discard()
            raise
        partial.finish(path)
    return record


def offered_size(url: str, timeout: float = 20.0) -> int:
    """Bytes of a file, by a HEAD request.

    Raises:
        DataError: there is no answer, none with that file, or none that says how large it is.
    """
    import requests

    try:
        with _session() as session:
            response = session.head(url, timeout=timeout, allow_redirects=True)
    except requests.RequestException as error:
        raise DataError(f"{url}: {_reason(error)}", "look at the network and its proxy") from error
    size = response.headers.get("Content-Length", "")
    if not response.ok or not size.isdecimal():
        said = f"status {response.status_code}" if not response.ok else "no size"
        raise DataError(f"{url}: the server says {said}", "open the address in a browser")
    return int(size)


class _Fetching:
    """The tries to get one file."""

    def __init__(self, partial: Partial, name: str, digest: str | None, copies: int, patience: Patience) -> None:
        self.partial = partial
        self.name = name
        self.digest = digest
        self.copies = copies
        self.patience = patience
        self.url = partial.version.url
        self._answered = False
        self._changes = 0

    def run(self) -> Version:
        from tqdm import tqdm

        tries, most = 0, self.partial.size
        with _session() as session, tqdm(desc=self.name, unit="B", unit_scale=True, mininterval=0.5) as bar:
            while True:
                try:
                    self._try(session, bar)
                    return self.partial.version
                except _AgainError as again:
                    # Counted by the farthest point: a server may always start anew and break off.
                    tries = 1 if self.partial.size > most else tries + 1
                    most = max(most, self.partial.size)
                    if tries >= (self.patience.tries if self._answered else _TRIES_UNANSWERED):
                        raise DataError(
                            f"{self.url} cannot be fetched: {again} (given up after {tries} tries; "
                            f"{in_units(self.partial.size)} are kept)",
                            "look at the network and its proxy; the same command goes on from here",
                        ) from again
                    wait = self.patience.first_wait * 2 ** (tries - 1) if again.wait is None else again.wait
                    bar.set_postfix_str(f"{again}, trying again")
                    time.sleep(min(wait, self.patience.longest_wait))

    def _try(self, session: Session, bar: Any) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        have, version = self.partial.size, self.partial.version
        if have and have == version.size:
            return
        if have and version.validator is None and self.digest is None:
            self.partial.restart(version)
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and version.validator is not None:
            headers["If-Range"] = version.validator
        try:
            with session.get(self.url, headers=headers, stream=True, timeout=self.patience.timeout) as response:
                self._answered = True
                self._receive(response, have, bar)
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise _AgainError(_reason(error)) from error
            raise DataError(f"{self.url}: {_reason(error)}", "look at the clock and the certificates") from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            raise _AgainError(_reason(error)) from error
        except requests.RequestException as error:
            raise DataError(f"{self.url} cannot be fetched: {_reason(error)}", "look at the address") from error

    def _receive(self, response: Response, have: int, bar: Any) -> None:
        if self.url.startswith("https:") and not response.url.startswith("https:"):
            place = _without_secrets(response.url.partition("?")[0])  # what follows may be a signature
            raise DataError(f"{self.url} leads to {place}, which is not encrypted", "fetch the file by hand")
        if response.status_code == 416 and have:
            total = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if total and int(total[1]) == have and not self.partial.version.differs_from(_version(self.url, response)):
                return
            self._start_anew("the file is shorter than what was fetched")
        if response.status_code in _PASSING:
            raise _AgainError(f"status {response.status_code}", _retry_after(response.headers.get("Retry-After")))
        if response.status_code not in (200, 206):
            raise DataError(
                f"{self.url}: the server says status {response.status_code} {response.reason or ''}".rstrip(),
                "open the address in a browser; its owner may have moved the file",
            )
        if response.status_code == 206:
            self._require_rest(response, have)
        else:
            self._begin(response)
        self._read(response, bar)

    def _require_rest(self, response: Response, have: int) -> None:
        """That the answer goes on where we are, with the file that we have the beginning of."""
        part = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
        if part is None or int(part[1]) != have:
            self._start_anew("the server sent another part than was asked for")
        version = _version(self.url, response, part[3])
        if self.partial.version.differs_from(version):
            self._start_anew("the file has changed on the server")
        if self.partial.version.size is None:
            self.partial.version = replace(self.partial.version, size=version.size)

    def _start_anew(self, reason: str) -> NoReturn:
        self.partial.restart(Version(self.url))
        self._changes += 1
        if self._changes > _CHANGES:
            raise DataError(f"{self.url} cannot be fetched: {reason}, {self._changes} times", "try again later")
        raise _AgainError(reason, wait=0)

    def _begin(self, response: Response) -> None:
        version = _version(self.url, response, response.headers.get("Content-Length"))
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DataError(
                f"{self.url}: the server sent a web page, not the file",
                "open the address in a browser: a login, a form or a notice may be in the way",
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise DataError(f"{self.url}: the server compresses the file unasked", "fetch it by hand")
        if version.size == 0:
            raise DataError(f"{self.url}: the server sent an empty file", "try again later")
        chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if version.size is None and not chunked and self.digest is None:
            raise DataError(
                f"{self.url}: the server does not say how large the file is, so that nobody knows when it is whole",
                "fetch it by hand",
            )
        self.partial.restart(version)

    def _read(self, response: Response, bar: Any) -> None:
        from urllib3.exceptions import ProtocolError

        size, have = self.partial.version.size, self.partial.size
        if size is not None:
            self.partial.require_room(self.copies * size - have)
        bar.total = size
        bar.n = have
        bar.set_postfix_str("")
        try:
            # read1 hands over what has come; read would lose a megabyte whenever the connection drops.
            while data := response.raw.read1(_CHUNK, decode_content=False):
                have += len(data)
                if size is not None and have > size:
                    self._start_anew(f"the server sends more than the {size:,} bytes that it announced")
                self.partial.append(data)
                bar.update(len(data))
            ended_early = size is not None and have < size
        except ProtocolError:
            ended_early = True
        if ended_early:
            whole = "" if size is None else f" of {size:,}"
            raise _AgainError(f"the connection ended after {have:,}{whole} bytes")


def _session() -> Session:
    import requests

    from centerclip_pl import __version__

    session = requests.Session()
    # Unpacked on the way, a file would have another size than was announced, and no part of it could be asked for.
    session.headers.update({"User-Agent": f"centerclip_pl/{__version__}", "Accept-Encoding": "identity"})
    return session


def _version(url: str, response: Response, size: str | None = None) -> Version:
    number = int(size) if size is not None and size.isdecimal() else None
    return Version(url, number, response.headers.get("ETag"), response.headers.get("Last-Modified"))


def _retry_after(value: str | None) -> float | None:
    """Seconds of the header Retry-After, which holds them or a date."""
    if value is None or value.strip().isdecimal():
        return None if value is None else float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _reason(error: Exception) -> str:
    """The innermost cause of a library's error, without the names of its objects."""
    while True:
        inner = getattr(error, "reason", None) or next((arg for arg in error.args if isinstance(arg, Exception)), None)
        if not isinstance(inner, Exception):
            break
        error = inner
    if isinstance(error, TimeoutError) or "timed out" in str(error):
        return "no answer in time"
    text = next((arg for arg in reversed(error.args) if isinstance(arg, str)), None) or type(error).__name__
    return _without_secrets(re.sub(r"<[^>]*>:? ?|HTTPS?Connection\(.*?\): ", "", text).strip())[:200]


def _without_secrets(text: str) -> str:
    """Addresses, of proxies for instance, without the name and password that stand before an @."""
    return re.sub(r"(?<=//)[^/@]*@|[^\s/@'\"]*@", "", text)
