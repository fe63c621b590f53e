"""The differential language on CPython's asyncio."""

import asyncio
import contextvars
from asyncio import CancelledError

from virtual_loop import Deadlock, VirtualLoop

TICK = 2.0**-9  # seconds: a power of two, so that floats add up exactly
ROUNDS = 3
TURNS = 50


class UserError(Exception):
    pass


class EmptySlot(Exception):
    pass


class Over(BaseException):
    """The trace has ended: whatever runs still is to end at once."""


KINDS = [
    (EmptySlot, "empty"),
    (TimeoutError, "timeout"),
    (asyncio.InvalidStateError, "invalid_state"),
    (asyncio.QueueEmpty, "queue_empty"),
    (asyncio.QueueFull, "queue_full"),
    (asyncio.QueueShutDown, "queue_shutdown"),
    (asyncio.BrokenBarrierError, "broken_barrier"),  # a RuntimeError itself
    (RuntimeError, "runtime"),
    (ValueError, "value"),
]

ERRORS = (Exception, CancelledError)

CATCH = {
    "cancelled": lambda error: isinstance(error, CancelledError),
    "timeout": lambda error: isinstance(error, TimeoutError),
    "user": lambda error: isinstance(error, UserError),
    "group": lambda error: isinstance(error, BaseExceptionGroup),
    "error": lambda error: not isinstance(error, CancelledError),
    "any": lambda error: True,
}

QUEUES = {"fifo": asyncio.Queue, "lifo": asyncio.LifoQueue, "priority": asyncio.PriorityQueue}

WAIT = {"all": asyncio.ALL_COMPLETED, "first": asyncio.FIRST_COMPLETED, "exception": asyncio.FIRST_EXCEPTION}

# Context variables live as long as the process; a program begins in an empty context.
VARS = [contextvars.ContextVar(str(n)) for n in range(16)]


def seconds(ticks):
    return None if ticks is None else ticks * TICK


class World:
    """What the coroutines of a running program share."""

    def __init__(self, program, loop, messages):
        self.loop = loop
        self.messages = messages
        self.coros = program["coros"]
        self.futures = [loop.create_future() for _ in range(program.get("futures", 0))]
        self.locks = [asyncio.Lock() for _ in range(program.get("locks", 0))]
        self.events = [asyncio.Event() for _ in range(program.get("events", 0))]
        # From version 2 on a condition has the lock of its number, where there is one.
        shared = dict(enumerate(self.locks)) if program["v"] >= 2 else {}
        self.conds = [asyncio.Condition(shared.get(n)) for n in range(program.get("conds", 0))]
        self.sems = [asyncio.Semaphore(value) for value in program.get("sems", ())]
        self.barriers = [asyncio.Barrier(parties) for parties in program.get("barriers", ())]
        self.queues = [QUEUES[kind](maxsize) for kind, maxsize in program.get("queues", ())]
        while len(VARS) < program.get("vars", 0):
            VARS.append(contextvars.ContextVar(str(len(VARS))))
        self.tasks = {}
        self.gathers = {}
        self.handles = {}
        self.instances = 0
        self.trace = []
        self.over = False

    def log(self, instance, name, value):
        if not self.over:
            self.trace.append((self.loop.turn, round(self.loop.now / TICK), instance, name, value))

    def error(self, error):
        if isinstance(error, CancelledError):
            if self.messages:
                return {"e": "cancelled", "m": error.args[0] if error.args else None}
            return {"e": "cancelled"}
        if isinstance(error, UserError):
            return {"e": "user", "k": error.args[0]}
        if isinstance(error, BaseExceptionGroup):
            return {"e": "group", "es": [self.error(inner) for inner in error.exceptions]}
        for kind, name in KINDS:
            if isinstance(error, kind):
                return {"e": name}
        return {"e": "other"}

    def coroutine(self, n):
        instance = self.instances
        self.instances += 1
        return Frame(self, instance).run(self.coros[n])

    def held(self, slot):
        kind, n = slot
        return self.tasks.get(n) if kind == "x" else self.futures[n]

    def slot(self, slot):
        future = self.held(slot)
        if future is None:
            raise EmptySlot
        return future

    def item(self, item):
        return self.coroutine(item[1]) if item[0] == "c" else self.slot(item)

    def items(self, items):
        made = []
        try:
            for item in items:
                made.append(self.item(item))
        except EmptySlot:
            for thing in made:
                if asyncio.iscoroutine(thing):
                    thing.close()
            raise
        return made

    async def main(self):
        main = asyncio.current_task()
        try:
            await self.coroutine(0)
        except ERRORS as error:
            self.log(-1, "main!", self.error(error))
        for _ in range(ROUNDS):
            left = [task for task in self.loop.tasks_left() if task is not main]
            if not left:
                break
            for task in left:
                task.cancel()
            for _ in range(TURNS):
                if all(task.done() for task in left):
                    break
                try:
                    await asyncio.sleep(0)
                except CancelledError:
                    pass
        left = [task for task in self.loop.tasks_left() if task is not main]
        self.log(-1, "drained", len(left))
        self.over = True


class Frame:
    """A coroutine that runs, or a callback that acts. A block gives None, or a tuple with the value that it returns."""

    def __init__(self, world, instance):
        self.world = world
        self.instance = instance
        self.timeouts = []
        self.groups = []

    async def run(self, body):
        self.log("start", None)
        try:
            flow = await self.block(body)
        except ERRORS as error:
            self.log("end", self.world.error(error))
            raise
        value = flow[0] if flow else None
        self.log("end", value)
        return value

    def act_all(self, stmts):
        """What a callback that acts does. An error ends it and goes to the loop's exception handler."""
        for stmt in stmts:
            if self.world.over:
                return
            ACTS[stmt[0]](self, *stmt[1:])

    def log(self, name, value):
        self.world.log(self.instance, name, value)

    async def block(self, stmts):
        for stmt in stmts:
            if self.world.over:
                raise Over
            name = stmt[0]
            if act := ACTS.get(name):
                act(self, *stmt[1:])
            elif wait := WAITS.get(name):
                await wait(self, *stmt[1:])
            elif name == "return":
                return (stmt[1],)
            elif flow := await NESTED[name](self, *stmt[1:]):
                return flow
        return None

    async def awaited(self, name, awaitable, swallowed=()):
        """Awaits and logs the result."""
        try:
            result = await awaitable
        except ERRORS as error:
            self.log(name + "!", self.world.error(error))
            if not isinstance(error, swallowed):
                raise
        else:
            self.log(name, result)

    def noted(self, name, function, *args):
        """Calls and logs the result; errors end here."""
        try:
            result = function(*args)
        except Exception as error:
            self.log(name + "!", self.world.error(error))
        else:
            self.log(name, result)

    # --- statements that do not await ---

    def raise_(self, k):
        raise UserError(k)

    def raise_cancelled(self, message):
        raise CancelledError() if message is None else CancelledError(message)

    def spawn(self, x, c, eager):
        world = self.world
        coro = world.coroutine(c)
        world.tasks[x] = world.loop.create_eager_task(coro) if eager else world.loop.create_task(coro)
        self.log("spawn", x)

    def gspawn(self, x, c):
        if self.groups:
            world = self.world

            def create():
                world.tasks[x] = self.groups[-1].create_task(world.coroutine(c))
                return x

            self.noted("gspawn", create)

    def cancel(self, slot, message):
        future = self.world.held(slot)
        self.log("cancel", None if future is None else future.cancel(message))

    def uncancel(self):
        self.log("uncancel", asyncio.current_task().uncancel())

    def cancelling(self):
        self.log("cancelling", asyncio.current_task().cancelling())

    def state(self, slot):
        future = self.world.held(slot)
        if future is None:
            state = None
        elif not future.done():
            state = "pending"
        elif future.cancelled():
            state = "cancelled"
        else:
            state = "done" if future.exception() is None else "error"
        self.log("state", state)

    def set_result(self, f, k):
        self.noted("set_result", self.world.futures[f].set_result, k)

    def set_error(self, f, k):
        self.noted("set_error", self.world.futures[f].set_exception, UserError(k))

    def done_cb(self, slot, k):
        future = self.world.held(slot)
        if future is not None:
            future.add_done_callback(lambda _: self.world.log(-1, "dcb", k))

    def reschedule(self, t):
        if self.timeouts:
            when = None if t is None else self.world.loop.time() + seconds(t)
            self.noted("reschedule", self.timeouts[-1].reschedule, when)

    def call_soon(self, h, k):
        world = self.world
        world.handles[h] = world.loop.call_soon(world.log, -1, "cb", k)

    def call_later(self, h, t, k):
        world = self.world
        world.handles[h] = world.loop.call_later(seconds(t), world.log, -1, "cb", k)

    def done_act(self, slot, body):
        future = self.world.held(slot)
        if future is not None:
            future.add_done_callback(lambda _: Frame(self.world, -1).act_all(body))

    def soon_act(self, h, body):
        world = self.world
        world.handles[h] = world.loop.call_soon(Frame(world, -1).act_all, body)

    def later_act(self, h, t, body):
        world = self.world
        world.handles[h] = world.loop.call_later(seconds(t), Frame(world, -1).act_all, body)

    def hcancel(self, h):
        if h in self.world.handles:
            self.world.handles[h].cancel()

    def ctx_get(self, v):
        self.log("ctx_get", VARS[v].get(None))

    def gather_to(self, n, items, return_exceptions):
        self.world.gathers[n] = asyncio.gather(*self.world.items(items), return_exceptions=return_exceptions)
        self.log("gather_to", n)

    def g_cancel(self, n, message):
        outer = self.world.gathers.get(n)
        self.log("g_cancel", None if outer is None else outer.cancel(message))

    def shield_to(self, x, item):
        self.world.tasks[x] = asyncio.shield(self.world.item(item))
        self.log("shield_to", x)

    def states(self):
        world = self.world
        states = [lock.locked() for lock in world.locks]
        states += [event.is_set() for event in world.events]
        states += [cond.locked() for cond in world.conds]
        states += [sem.locked() for sem in world.sems]
        for barrier in world.barriers:
            states += [barrier.n_waiting, barrier.broken]
        for queue in world.queues:
            states += [queue.qsize(), queue.empty(), queue.full()]
        self.log("states", states)

    def stop(self):
        self.world.loop.stop()
        self.log("stop", None)

    # --- statements that await ---

    async def await_(self, item):
        await self.awaited("await", self.world.item(item))

    async def gather(self, items, return_exceptions):
        outer = asyncio.gather(*self.world.items(items), return_exceptions=return_exceptions)
        await self.awaited("gather", self.gathered(outer))

    async def gathered(self, outer):
        return [self.world.error(r) if isinstance(r, BaseException) else r for r in await outer]

    async def g_await(self, n):
        outer = self.world.gathers.get(n)
        if outer is None:
            raise EmptySlot
        await self.awaited("g_await", self.gathered(outer))

    async def cond_wait_for(self, c, e):
        def is_set():
            is_set = self.world.events[e].is_set()
            self.log("pred", is_set)
            return is_set

        await self.awaited("cond_wait_for", self.world.conds[c].wait_for(is_set), RuntimeError)

    async def wait(self, slots, mode, t):
        futures = [self.world.slot(slot) for slot in slots]
        await self.awaited("wait", self.waited(futures, mode, t))

    async def waited(self, futures, mode, t):
        done, _ = await asyncio.wait(futures, timeout=seconds(t), return_when=WAIT[mode])
        return [int(future in done) for future in futures]

    async def wait_for(self, item, t):
        await self.awaited("wait_for", asyncio.wait_for(self.world.item(item), seconds(t)))

    async def shield(self, item):
        await self.awaited("shield", asyncio.shield(self.world.item(item)))

    async def as_completed(self, slots, t):
        futures = [self.world.slot(slot) for slot in slots]
        await self.awaited("as_completed", self.completed(futures, t))

    async def completed(self, futures, t):
        results = []
        for result in asyncio.as_completed(futures, timeout=seconds(t)):
            try:
                results.append(await result)
            except (UserError, TimeoutError) as error:
                results.append(self.world.error(error))
        return results

    # --- statements with blocks ---

    async def loop(self, n, body):
        for _ in range(n):
            if flow := await self.block(body):
                return flow

    async def timeout(self, t, body):
        scope = asyncio.timeout(seconds(t))
        self.timeouts.append(scope)
        try:
            async with scope:
                flow = await self.block(body)
        except ERRORS as error:
            self.log("expired", scope.expired())
            self.log("timeout!", self.world.error(error))
            raise
        finally:
            self.timeouts.pop()
        self.log("expired", scope.expired())
        self.log("timeout", None)
        return flow

    async def group(self, body):
        try:
            async with asyncio.TaskGroup() as group:
                self.groups.append(group)
                try:
                    await self.block(body)
                finally:
                    self.groups.pop()
        except ERRORS as error:
            self.log("group!", self.world.error(error))
            raise
        self.log("group", None)

    async def try_(self, body, handlers, last):
        flow = failed = None
        try:
            flow = await self.block(body)
        except ERRORS as error:
            failed = error
        if failed is not None:
            for kind, handler, reraise in handlers:
                if CATCH[kind](failed):
                    self.log("caught", self.world.error(failed))
                    try:
                        flow = await self.block(handler)
                        if flow or not reraise:
                            failed = None
                    except ERRORS as error:
                        failed = error
                    break
        try:
            if last_flow := await self.block(last):
                return last_flow
            if failed is not None:
                raise failed
            return flow
        finally:
            failed = None  # an error that refers to itself by its traceback is garbage for the collector only

    async def holding(self, name, primitive, body):
        await self.awaited(name, primitive.acquire())
        try:
            return await self.block(body)
        finally:
            self.noted(name + "_exit", primitive.release)


ACTS = {
    "log": lambda frame, k: frame.log("log", k),
    "raise": Frame.raise_,
    "raise_cancelled": Frame.raise_cancelled,
    "spawn": Frame.spawn,
    "gspawn": Frame.gspawn,
    "cancel": Frame.cancel,
    "uncancel": Frame.uncancel,
    "cancelling": Frame.cancelling,
    "state": Frame.state,
    "set_result": Frame.set_result,
    "set_error": Frame.set_error,
    "done_cb": Frame.done_cb,
    "reschedule": Frame.reschedule,
    "call_soon": Frame.call_soon,
    "call_later": Frame.call_later,
    "hcancel": Frame.hcancel,
    "release": lambda frame, n: frame.noted("release", frame.world.locks[n].release),
    "sem_release": lambda frame, n: frame.world.sems[n].release(),
    "event_set": lambda frame, n: frame.world.events[n].set(),
    "event_clear": lambda frame, n: frame.world.events[n].clear(),
    "notify": lambda frame, n, count: frame.noted("notify", frame.world.conds[n].notify, count),
    "notify_all": lambda frame, n: frame.noted("notify_all", frame.world.conds[n].notify_all),
    "put_nowait": lambda frame, n, k: frame.noted("put_nowait", frame.world.queues[n].put_nowait, k),
    "get_nowait": lambda frame, n: frame.noted("get_nowait", frame.world.queues[n].get_nowait),
    "task_done": lambda frame, n: frame.noted("task_done", frame.world.queues[n].task_done),
    "shutdown": lambda frame, n, immediate: frame.world.queues[n].shutdown(immediate),
    "ctx_set": lambda frame, n, k: VARS[n].set(k),
    "ctx_get": Frame.ctx_get,
    "gather_to": Frame.gather_to,
    "g_cancel": Frame.g_cancel,
    "shield_to": Frame.shield_to,
    "done_act": Frame.done_act,
    "soon_act": Frame.soon_act,
    "later_act": Frame.later_act,
    "states": Frame.states,
    "stop": Frame.stop,
}

WAITS = {
    "sleep": lambda frame, t: frame.awaited("sleep", asyncio.sleep(seconds(t))),
    "await": Frame.await_,
    "gather": Frame.gather,
    "wait": Frame.wait,
    "wait_for": Frame.wait_for,
    "shield": Frame.shield,
    "as_completed": Frame.as_completed,
    "acquire": lambda frame, n: frame.awaited("acquire", frame.world.locks[n].acquire()),
    "event_wait": lambda frame, n: frame.awaited("event_wait", frame.world.events[n].wait()),
    "cond_wait": lambda frame, n: frame.awaited("cond_wait", frame.world.conds[n].wait(), RuntimeError),
    "barrier": lambda frame, n: frame.awaited("barrier", frame.world.barriers[n].wait(), asyncio.BrokenBarrierError),
    "barrier_reset": lambda frame, n: frame.awaited("barrier_reset", frame.world.barriers[n].reset()),
    "barrier_abort": lambda frame, n: frame.awaited("barrier_abort", frame.world.barriers[n].abort()),
    "put": lambda frame, n, k: frame.awaited("put", frame.world.queues[n].put(k), asyncio.QueueShutDown),
    "get": lambda frame, n: frame.awaited("get", frame.world.queues[n].get(), asyncio.QueueShutDown),
    "join": lambda frame, n: frame.awaited("join", frame.world.queues[n].join(), asyncio.QueueShutDown),
    "g_await": Frame.g_await,
    "sem_acquire": lambda frame, n: frame.awaited("sem_acquire", frame.world.sems[n].acquire()),
    "cond_wait_for": Frame.cond_wait_for,
}

NESTED = {
    "loop": Frame.loop,
    "timeout": Frame.timeout,
    "group": Frame.group,
    "try": Frame.try_,
    "lock": lambda frame, n, body: frame.holding("lock", frame.world.locks[n], body),
    "cond": lambda frame, n, body: frame.holding("cond", frame.world.conds[n], body),
    "sem": lambda frame, n, body: frame.holding("sem", frame.world.sems[n], body),
}


# What version 2 added.
SECOND = {
    "gather_to",
    "g_await",
    "g_cancel",
    "shield_to",
    "done_act",
    "soon_act",
    "later_act",
    "sem_acquire",
    "cond_wait_for",
    "states",
    "stop",
}


def names(stmts):
    """The names of all statements, and of whatever else has one."""
    if isinstance(stmts, list):
        if stmts and isinstance(stmts[0], str):
            yield stmts[0]
        for inner in stmts:
            yield from names(inner)


def check(program):
    """Raises ValueError where a program is of no version, or needs a later one."""
    version = program["v"]
    if version not in (1, 2):
        raise ValueError(f"version {version} of the language is not known, only 1 and 2")
    if version == 1:
        for name in names(program["coros"]):
            if name in SECOND:
                raise ValueError(f"{name} needs version 2 of the language")


def run(program, messages):
    """Runs a program and gives its trace."""
    check(program)
    loop = VirtualLoop()
    loop.set_exception_handler(lambda loop, context: None)
    world = World(program, loop, messages)
    main = loop.create_task(world.main(), context=contextvars.Context())
    main.add_done_callback(lambda _: loop.stop())
    try:
        loop.run_forever()
        if not main.done():
            world.log(-1, "stopped", None)
    except Deadlock:
        world.log(-1, "deadlock", None)
    world.over = True
    loop.close()
    return world.trace
