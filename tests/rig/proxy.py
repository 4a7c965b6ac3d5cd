"""A TCP relay between prismd and a backend that fails on command: late, silent, cut, refused.

    with Proxy(target_port) as p:            # p.port, p.address
        p.delay(0.05)      every piece of either direction comes that much later, in order
        p.hold()           half-open: the connections stay, no byte passes; new ones are accepted and hang
        p.pass_()          what was held flows again
        p.cut()            all connections are reset (RST), new ones pass
        p.cut(after=1000)  the next connections are reset after so many bytes of the answer
        p.refuse()         the port is closed and all connections are reset; p.accept() opens it again
"""
import asyncio
import socket
import struct
import threading

PIECE = 65536


class Proxy:
    def __init__(self, target_port, port=0, delay_seconds=0.0):
        self.target, self.port = target_port, port
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.seconds, self.limit = delay_seconds, None
        self.writers, self.server, self.flow = set(), None, None

    def __enter__(self):
        self.thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_):
        self.refuse()
        self._do(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def delay(self, seconds):
        self.seconds = seconds

    def hold(self):
        self.loop.call_soon_threadsafe(self.flow.clear)

    def pass_(self):
        self.loop.call_soon_threadsafe(self.flow.set)

    def cut(self, after=None):
        self.limit = after
        if after is None:
            self._do(self._reset())

    def refuse(self):
        self._do(self._close())

    def accept(self):
        self._do(self._open())

    def _do(self, coroutine):
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    async def _open(self):
        self.flow = self.flow or asyncio.Event()
        self.flow.set()
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def _close(self):
        self.server.close()
        await self._reset()

    async def _end(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for t in tasks:
            t.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reset(self):
        for w in list(self.writers):
            sock = w.get_extra_info("socket")
            if sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            w.transport.abort()
        self.writers.clear()

    async def _serve(self, reader, writer):
        self.writers.add(writer)
        try:
            back_reader, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self.writers.discard(writer)
            return
        self.writers.add(back)
        limit, self.limit = self.limit, None
        await asyncio.gather(self._copy(reader, back, None), self._copy(back_reader, writer, limit))
        self.writers -= {writer, back}

    async def _copy(self, reader, writer, limit):
        """Reader and writer halves run apart, so that a delay lowers no throughput."""
        queue = asyncio.Queue(maxsize=1024)
        sender = asyncio.create_task(self._send(queue, writer))
        try:
            while data := await reader.read(PIECE):
                if limit is not None:
                    data, limit = data[:limit], limit - len(data)
                await queue.put((self.loop.time() + self.seconds, data))
                if limit is not None and limit <= 0:
                    await queue.put((0, None))
                    break
            else:
                await queue.put((self.loop.time() + self.seconds, b""))
        except OSError:
            writer.transport.abort()
            sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)

    async def _send(self, queue, writer):
        try:
            while True:
                due, data = await queue.get()
                if data is None:
                    await self._reset()
                    return
                late = due - self.loop.time()
                if late > 0:
                    await asyncio.sleep(late)
                await self.flow.wait()
                if data == b"":
                    writer.close()
                    return
                writer.write(data)
                await writer.drain()
        except OSError:
            writer.transport.abort()
