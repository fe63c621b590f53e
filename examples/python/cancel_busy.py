"""A task that computes cannot be interrupted: a cancel is delivered at its next await."""

import asyncio


async def compute(progress):
    """Adds squares, and calls `progress` after each."""
    sum = 0
    for n in range(1, 5):
        sum += n * n
        progress(n)
    print(f"compute: the sum is {sum}")
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        print("compute: cancelled at the await")
        raise
    print("compute: this is never reached")
    return sum


async def main():
    def progress(n):
        print(f"step {n}")
        if n == 2:
            print("a request to cancel")
            asyncio.current_task().cancel()

    task = asyncio.create_task(compute(progress))
    try:
        print(f"main: the result is {await task}")
    except asyncio.CancelledError:
        print("main: the task was cancelled")


asyncio.run(main())
