"""`wait_for` sets a deadline. What is late is cancelled, and has cleaned up before the timeout is raised."""

import asyncio


async def fetch(page, seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(f"{page}: cancelled, closing the connection")
        await asyncio.sleep(0.5)
        print(f"{page}: closed")
        raise
    return f"the text of {page}"


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    def elapsed():
        return clock.time() - start

    text = await asyncio.wait_for(fetch("fast.html", 1), 2)
    print(f"{elapsed():.1f} s: in time: {text}")

    try:
        text = await asyncio.wait_for(fetch("slow.html", 60), 2)
        print(f"in time: {text}")
    except TimeoutError:
        # 1 s, then the deadline of 2 s, then the cleanup of 0.5 s.
        print(f"{elapsed():.1f} s: too late")


asyncio.run(main())
