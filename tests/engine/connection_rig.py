"""What connections are tested against: an own authority, servers that stamp arrivals, a small proxy."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT = Path(__file__).resolve().parents[2]
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Authority:
    """A certificate authority of its own; its certificate is the PEM file `path`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._build(self._name, self._key.public_key(), authority=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _build(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool, host: str = ""
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            names: list[x509.GeneralName] = [x509.DNSName(host)]
            with contextlib.suppress(ValueError):
                names = [x509.IPAddress(ipaddress.ip_address(host))]
            purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, host: str, passphrase: bytes | None = None) -> tuple[Path, Path]:
        """The PEM files (certificate, key) of a certificate for `host`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._build(subject, key.public_key(), authority=False, host=host)
        hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else None
        paths = self._folder / f"{host}.cert.pem", self._folder / f"{host}.key.pem"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                hidden or serialization.NoEncryption(),
            )
        )
        return paths

    def server_side(self, host: str, *, demand: Authority | None = None) -> ssl.SSLContext:
        """The context of a server with a certificate for `host`, demanding one of clients if told."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(host))
        if demand is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(demand.path)
        return context


@dataclasses.dataclass
class Arrival:
    """A request as a server saw it; `at_ns` is the monotonic instant of its first bytes."""

    at_ns: int
    connection: int
    head: bytes
    body_bytes: int
    body: bytes = b""

    @property
    def tag(self) -> str:
        """ "request_id/copy" of the row that it belongs to."""
        return header(self.head, b"x-peaktape-request").decode()


def header(head: bytes, name: bytes) -> bytes:
    """The value of a header in a request's head, empty if it has none."""
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.lower() == name:
            return value.strip()
    return b""


@dataclasses.dataclass
class Site:
    """A running server: where it is, and what has arrived."""

    port: int = 0
    arrivals: list[Arrival] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connections(self) -> int:
        """How many connections brought requests."""
        return len({arrival.connection for arrival in self.arrivals})


type Answer = Callable[[Arrival], bytes]


def fine(arrival: Arrival) -> bytes:
    return OK


def _serve(connection: socket.socket, number: int, site: Site, answer: Answer) -> None:
    buffer, began_ns = bytearray(), 0
    while True:
        data = connection.recv(1 << 20)
        if not data:
            return
        began_ns = began_ns or time.monotonic_ns()
        buffer += data
        at = buffer.find(b"\r\n\r\n")
        if at < 0:
            continue
        head = bytes(buffer[: at + 4])
        length = int(header(head, b"content-length") or 0)
        if len(buffer) < at + 4 + length:
            continue
        body = bytes(buffer[at + 4 : at + 4 + length])
        del buffer[: at + 4 + length]
        arrival = Arrival(began_ns, number, head, length, body)
        began_ns = 0
        site.arrivals.append(arrival)
        connection.sendall(answer(arrival))


@contextlib.contextmanager
def listening(
    listener: socket.socket, site: Site, behave: Callable[[socket.socket, int], None]
) -> Iterator[Site]:
    """Does `behave` to every connection that `listener` takes, with its number, each in a thread."""

    def one(connection: socket.socket, number: int) -> None:
        with connection, contextlib.suppress(OSError):
            behave(connection, number)

    def accept() -> None:
        number = 0
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            number += 1
            if listener.family == socket.AF_INET:  # servers do; or answers wait for delayed acknowledgements
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=one, args=(connection, number), daemon=True).start()

    with listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield site
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextlib.contextmanager
def site(
    *,
    tls: ssl.SSLContext | None = None,
    answer: Answer = fine,
    unix: Path | None = None,
    at: tuple[str, int] = ("127.0.0.1", 0),
    greeting: bytes = b"",
) -> Iterator[Site]:
    """A keep-alive server on loopback or on a Unix socket, with TLS if told."""
    if unix is not None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(unix))
        listener.listen(64)
        found = Site()
    else:
        listener = socket.create_server(at, backlog=64)
        found = Site(listener.getsockname()[1])

    def behave(connection: socket.socket, number: int) -> None:
        if tls is None:
            connection.sendall(greeting)
            _serve(connection, number, found, answer)
            return
        try:
            with tls.wrap_socket(connection, server_side=True) as wrapped:
                _serve(wrapped, number, found, answer)
        except ssl.SSLError as error:
            found.refused.append(str(error))

    with listening(listener, found, behave) as running:
        yield running


@contextlib.contextmanager
def proxy(
    names: dict[str, int], *, connect_reply: bytes = b"HTTP/1.1 200 Established\r\n\r\n"
) -> Iterator[Site]:
    """An HTTP proxy that knows the loopback ports behind `names` ("host:port"), and nothing else."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    found = Site(listener.getsockname()[1])

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def behave(connection: socket.socket, number: int) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            if not (data := connection.recv(65536)):
                return
            head += data
        found.arrivals.append(Arrival(time.monotonic_ns(), number, head, 0))
        method, place, _ = head.split(b" ", 2)
        if method == b"CONNECT":
            connection.sendall(connect_reply)
            if b" 200 " not in connect_reply:
                return
            head = b""
        else:
            place = place.removeprefix(b"http://").partition(b"/")[0]
            place = place if b":" in place else place + b":80"
        with socket.create_connection(("127.0.0.1", names[place.decode()])) as beyond:
            beyond.sendall(head)  # an origin takes the absolute form too (RFC 9112, 3.2.2)
            back = threading.Thread(target=pump, args=(beyond, connection), daemon=True)
            back.start()
            pump(connection, beyond)
            back.join(10)

    with listening(listener, found, behave) as running:
        yield running


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """A port of loopback that takes no more connections: connecting there hangs. Yields the port."""
    with socket.socket() as listener, contextlib.ExitStack() as held:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        time.sleep(0.1)
        yield listener.getsockname()[1]


def free_port() -> int:
    """A port of loopback on which no one listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port
