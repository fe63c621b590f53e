"""Cancelling a `gather` cancels everything that it waits for.

The gather ends with the first of them; the others take their time.
"""

import asyncio


async def worker(name, cleanup):
    print(f"{name}: works")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print(f"{name}: cancelled, tidies up")
        await asyncio.sleep(cleanup)
        print(f"{name}: has tidied up")
        raise


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    def elapsed():
        return clock.time() - start

    quick = asyncio.create_task(worker("quick", 1))
    thorough = asyncio.create_task(worker("thorough", 2))
    both = asyncio.gather(quick, thorough)
    await asyncio.sleep(1)

    print("main: cancels the gather")
    both.cancel()
    try:
        await both
    except asyncio.CancelledError:
        print(f"main: the gather was cancelled after {elapsed():.1f} s")
    try:
        await thorough
    except asyncio.CancelledError:
        print(f"main: thorough was cancelled after {elapsed():.1f} s")


asyncio.run(main())
