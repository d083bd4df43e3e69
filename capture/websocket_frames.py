"""Messages read from a copy of a WebSocket connection's bytes (RFC 6455), one direction at a time.

Sans-io, and a reader only: the bytes themselves have gone on their way, masks, fragments and pings as they
were. Compressed messages stay so here: see `message_log`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from wsproto.extensions import Extension
from wsproto.frame_protocol import FrameDecoder, FrameProtocol, Opcode, ParseFailed, RsvBits

_NORMAL_CLOSES: Final = (1000, 1001, 1005)


class Piece(NamedTuple):
    """A piece of a message's payload; the last one of the message `ends` it."""

    payload: bytes
    ends: bool
    text: bool
    compressed: bool


class _Compressed(Extension):
    """Stands for permessage-deflate: notes which messages are compressed, and leaves them so."""

    name = "permessage-deflate"

    def __init__(self) -> None:
        self.compressed = False

    def offer(self) -> bool:
        return False

    def enabled(self) -> bool:
        return True

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> RsvBits:
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self.compressed = rsv.rsv1
        return RsvBits(True, False, False)


class WebSocketReader:
    """The messages that one side sends. `closed` is the code and reason of its close frame, once there.

    Bytes that are no WebSocket frames set `broken`; nothing after them is read.
    """

    def __init__(self, *, from_client: bool) -> None:
        self.closed: tuple[int, str] | None = None
        self.broken = ""
        self._marks = _Compressed()
        self._decoder = FrameDecoder(client=not from_client, extensions=[self._marks])
        self._text = False
        self._close_frame = b""

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces of messages in `data`, which is what came next."""
        pieces: list[Piece] = []
        if self.broken:
            return pieces
        self._decoder.receive_bytes(data)
        try:
            while (frame := self._decoder.process_buffer()) is not None:
                payload = bytes(frame.payload)  # type: ignore[arg-type]
                if frame.opcode is Opcode.CLOSE:
                    self._close_frame += payload
                    if frame.frame_finished:
                        self._read_close()
                elif not frame.opcode.iscontrol():
                    if frame.opcode is not Opcode.CONTINUATION:
                        self._text = frame.opcode is Opcode.TEXT
                    ends = frame.frame_finished and frame.message_finished
                    pieces.append(Piece(payload, ends, self._text, self._marks.compressed))
        except ParseFailed as error:
            self.broken = str(error) or type(error).__name__
        return pieces

    def _read_close(self) -> None:
        code = int.from_bytes(self._close_frame[:2]) if len(self._close_frame) >= 2 else 1005
        self.closed = self.closed or (code, self._close_frame[2:].decode("utf-8", "replace"))

    def complaint(self) -> str:
        """What a close frame says beyond a normal end, or ""."""
        if self.closed is None or self.closed[0] in _NORMAL_CLOSES:
            return ""
        code, reason = self.closed
        return f"websocket closed with {code}" + (f": {reason}" if reason else "")
