"""Tasks end in any order; their results come in the order in which they are awaited."""

import asyncio


async def fetch(page, seconds):
    await asyncio.sleep(seconds)
    print(f"{page} has arrived")
    return f"the text of {page}"


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    def elapsed():
        return clock.time() - start

    slow = asyncio.create_task(fetch("slow.html", 3))
    fast = asyncio.create_task(fetch("fast.html", 1))

    text = await slow
    print(f"{elapsed():.1f} s: {text}")
    # This one has been done for two seconds: the await does not suspend main.
    text = await fast
    print(f"{elapsed():.1f} s: {text}")


asyncio.run(main())
