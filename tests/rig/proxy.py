"""A TCP relay between prismd and a backend that makes the backend slow: a machine of any speed can overload it then."""
import asyncio
import threading


class SlowProxy:
    """with SlowProxy(port, seconds) as proxy: proxy.address; each piece of the answer comes that much later."""

    def __init__(self, target_port, delay_seconds):
        self.target_port, self.delay = target_port, delay_seconds
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.ready.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.server.sockets[0].getsockname()[1]
        self.ready.set()
        self.loop.run_forever()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.server.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _serve(self, reader, writer):
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            await asyncio.gather(self._copy(reader, back_writer, None), self._copy(back_reader, writer, self.loop))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            back_writer.close()

    async def _copy(self, reader, writer, delayed):
        while data := await reader.read(65536):
            if delayed is None:
                writer.write(data)
            else:
                delayed.call_later(self.delay, writer.write, data)
        writer.close()
