"""Fire and forget: a task starts when main awaits or ends, never inside of `create_task`."""

import asyncio


async def background(name):
    print(f"{name}: starts")
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        print(f"{name}: cancelled")
        raise
    print(f"{name}: ends")


async def main():
    # asyncio advises to keep a reference, lest the task be collected before its end.
    early = asyncio.create_task(background("early"))
    print("main: has created early, and awaits")
    await asyncio.sleep(2)

    late = asyncio.create_task(background("late"))
    print("main: has created late, and ends")
    # `late` takes its first step now. Then `run` cancels what is left, and waits for it.


asyncio.run(main())
