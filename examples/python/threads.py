"""Another thread sends work to the loop, watches it, fetches results, and fires and forgets."""

import asyncio


async def record(camera):
    """Records until it is cancelled."""
    asyncio.current_task().set_name(camera)
    print(f"{camera}: records")
    never_set = asyncio.get_running_loop().create_future()
    try:
        await never_set
    except asyncio.CancelledError:
        print(f"{camera}: stops")
    return f"the film of {camera}"


async def recording():
    """The cameras that record, by the names of their tasks."""
    names = sorted(task.get_name() for task in asyncio.all_tasks())
    return ", ".join(name for name in names if name.startswith("camera"))


def stop(camera):
    for task in asyncio.all_tasks():
        if task.get_name() == camera:
            task.cancel()


async def switch_off():
    print("the lights go out")


def guard(loop):
    """Runs on a thread that has no loop. What it sends is run on the loop's thread."""
    # Submit work: these two run at the same time.
    first = asyncio.run_coroutine_threadsafe(record("camera 1"), loop)
    asyncio.run_coroutine_threadsafe(record("camera 2"), loop)

    # Watch it. `result` blocks this thread until the loop has an answer.
    print(f"guard: recording: {asyncio.run_coroutine_threadsafe(recording(), loop).result()}")

    # Have the loop call a plain function, then fetch a result.
    loop.call_soon_threadsafe(stop, "camera 1")
    print(f"guard: has got {first.result()}")
    print(f"guard: recording: {asyncio.run_coroutine_threadsafe(recording(), loop).result()}")

    # Fire and forget: what nobody waits for runs all the same.
    asyncio.run_coroutine_threadsafe(switch_off(), loop)


async def main():
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(guard, loop)
    print("main: the guard has left")
    # The camera 2 still records. `run` cancels it, and waits for it.


asyncio.run(main())
