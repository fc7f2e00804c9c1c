"""aioquic as a client of the harness; README.md beside the harness has the lines it speaks."""

import asyncio
import sys

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived


def say(*words):
    print(*words, flush=True)


class Client(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.data:
            say("bidi" if event.stream_id == 0 else "uni", event.data.hex())
        elif isinstance(event, ConnectionTerminated):
            say("closed", event.error_code)


async def main(host, port, ca):
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["x-im/1"], server_name="localhost", idle_timeout=120
    )
    configuration.load_verify_locations(ca)
    lines = asyncio.StreamReader(limit=1 << 22)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    async with connect(
        host, int(port), configuration=configuration, create_protocol=Client
    ) as client:
        say("connected")
        while line := await lines.readline():
            command, _, data = line.decode().strip().partition(" ")
            if command == "quit":
                break
            client._quic.send_stream_data(0, bytes.fromhex(data))
            client.transmit()
        client.close(0)


asyncio.run(main(*sys.argv[1].rsplit(":", 1), sys.argv[2]))
