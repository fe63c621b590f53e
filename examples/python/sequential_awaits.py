"""Awaiting a coroutine runs it in place: one after the other, four seconds in all.

Compare with `concurrent_sleeps`, which makes tasks of the same two coroutines.
"""

import asyncio


async def nap(name, seconds):
    print(f"{name} sleeps for {seconds} s")
    await asyncio.sleep(seconds)
    print(f"{name} is awake")


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    # A coroutine does nothing before it is awaited.
    a = nap("A", 3)
    b = nap("B", 1)
    print("main awaits A, then B")
    await a
    await b

    print(f"all that took {clock.time() - start:.1f} s")


asyncio.run(main())
