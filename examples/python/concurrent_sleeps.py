"""Two tasks sleep at the same time: three seconds in all, not four."""

import asyncio


async def nap(name, seconds):
    print(f"{name} sleeps for {seconds} s")
    await asyncio.sleep(seconds)
    print(f"{name} is awake")


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    a = asyncio.create_task(nap("A", 3))
    b = asyncio.create_task(nap("B", 1))
    print("main waits for both")
    await a
    await b

    print(f"all that took {clock.time() - start:.1f} s")


asyncio.run(main())
