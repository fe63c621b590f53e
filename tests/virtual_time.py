"""Runs an asyncio program in virtual time: `python virtual_time.py PROGRAM`.

The clock stands still while handles are ready, and jumps to the next deadline when none is.
"""

import asyncio
import runpy
import selectors
import sys


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self):
        super().__init__(Selector(self))
        self.now = 0.0

    def time(self):
        return self.now

    def shutdown_default_executor(self, timeout=None):
        # Threads take real time: no timeout fits them.
        return super().shutdown_default_executor()


class Selector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            return super().select()
        events = super().select(0)
        if not events:
            self.loop.now += timeout
        return events


class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = VirtualTimeLoop


asyncio.set_event_loop_policy(Policy())
runpy.run_path(sys.argv[1], run_name="__main__")
