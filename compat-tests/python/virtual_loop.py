"""CPython's own event loop on a virtual clock, and the orders that asyncio leaves to sets and heaps, fixed."""

import asyncio
import heapq
from asyncio import base_events, events, taskgroups, tasks


class Deadlock(BaseException):
    """Nothing is ready and no timer is armed."""


class Timer(events.TimerHandle):
    """First patch: of timers with equal deadlines, the one armed first comes first."""

    __slots__ = ("_order",)

    def __lt__(self, other):
        if self._when == other._when:
            return self._order < other._order
        return self._when < other._when


class VirtualLoop(base_events.BaseEventLoop):
    """A loop that never waits: its clock jumps to the next deadline."""

    def __init__(self):
        super().__init__()
        self._selector = self
        self._armed = 0
        self.now = 0.0
        self.turn = -1
        # Strong references, in the order of creation: asyncio keeps weak ones, in a set.
        self.tasks = []

    def time(self):
        return self.now

    def select(self, timeout):
        """The selector's part: called once in each turn."""
        self.turn += 1
        if timeout is None:
            raise Deadlock
        if timeout:
            self.now = self._scheduled[0]._when
        return ()

    def _process_events(self, event_list):
        pass

    def call_at(self, when, callback, *args, context=None):
        timer = Timer(when, callback, args, self, context)
        timer._order = self._armed
        self._armed += 1
        heapq.heappush(self._scheduled, timer)
        timer._scheduled = True
        return timer

    def create_task(self, coro, *, name=None, context=None):
        task = tasks.Task(coro, loop=self, context=context)
        self.tasks.append(task)
        return task

    def create_eager_task(self, coro):
        place = len(self.tasks)
        self.tasks.append(None)  # before those that its first step makes
        task = tasks.Task(coro, loop=self, eager_start=True)
        self.tasks[place] = task
        return task

    def tasks_left(self):
        return [task for task in self.tasks if task is not None and not task.done()]


class InsertionSet(dict):
    """A set in the order of insertion."""

    def __init__(self, values=()):
        super().__init__(dict.fromkeys(values))

    def add(self, value):
        self[value] = None

    def remove(self, value):
        del self[value]

    def discard(self, value):
        self.pop(value, None)


def _as_completed(self, aws, timeout):
    """CPython's `_AsCompletedIterator.__init__`, with the arguments' order."""
    self._done = asyncio.Queue()
    self._timeout_handle = None
    loop = events.get_event_loop()
    todo = InsertionSet(tasks.ensure_future(aw, loop=loop) for aw in aws)
    for f in todo:
        f.add_done_callback(self._handle_completion)
    if todo and timeout is not None:
        self._timeout_handle = loop.call_later(timeout, self._handle_timeout)
    self._todo = todo
    self._todo_left = len(todo)


def patch():
    """The other two: tasks that a group aborts, and callbacks that as_completed adds."""
    taskgroups.set = InsertionSet
    tasks._AsCompletedIterator.__init__ = _as_completed
