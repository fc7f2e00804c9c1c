"""Signs in, talks to itself, pings and says goodbye with the package websockets of PyPI.

python3 websockets-client.py URL TOKEN ACCOUNT. With `stay` behind it, it waits for the close of the gateway in place of
saying goodbye. Prints a line for each step.
"""

import asyncio
import struct
import sys

import websockets

url, token, account, *stay = sys.argv[1:]


def field(number, value):
    """A field of Protocol Buffers: a number below 128, or a text."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value, n = value.encode(), len(value.encode())
    return bytes([number << 3 | 2]) + (bytes([n]) if n < 128 else bytes([n & 127 | 128, n >> 7])) + value


def packet(header, body):
    return b"1234" + struct.pack(">I", len(header)) + header + struct.pack(">I", len(body)) + body


async def main():
    async with websockets.connect(url) as socket:
        print("open")
        await socket.send(packet(field(1, "login.signin") + field(3, 1), field(1, token)))
        assert account.encode() in await socket.recv()
        print("signed in")
        if not stay:
            header = field(1, "chat.user.talk") + field(3, 2) + field(6, account)
            talk = packet(header, field(1, 1) + field(2, "hello me"))
            # In two frames: a fragmented message is one message.
            await socket.send([talk[:20], talk[20:]])
            # The answer and the push, in either order.
            texts = [await socket.recv(), await socket.recv()]
            assert any(b"hello me" in text for text in texts)
            print("talked")
            await (await socket.ping(b"are you there"))
            print("pong")
            await socket.close(1000)
        try:
            # In front of a kick comes its notice.
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as closed:
            print("close", closed.rcvd.code, closed.rcvd.reason)


asyncio.run(asyncio.wait_for(main(), 25))
