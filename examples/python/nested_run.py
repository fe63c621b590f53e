"""One loop a thread: `run` inside of a running loop is refused, and the loop goes on unharmed."""

import asyncio


async def answer():
    print("answer: computing")
    await asyncio.sleep(1)
    return 42


async def main():
    coroutine = answer()
    try:
        print(f"not refused: {asyncio.run(coroutine)}")
    except RuntimeError:
        # The coroutine has not begun.
        coroutine.close()
        print("refused: a loop runs here already")
    print(f"awaited instead: {await answer()}")


asyncio.run(main())
