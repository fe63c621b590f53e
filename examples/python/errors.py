"""Errors come out of an await: at once from a coroutine, whenever it is awaited from a task."""

import asyncio


class NotFound(Exception):
    def __init__(self, page):
        self.page = page

    def __str__(self):
        return f"{self.page} is not here"


async def find(page):
    await asyncio.sleep(1)
    print(f"looked for {page}")
    raise NotFound(page)


async def main():
    # A coroutine runs in place, and so its error appears.
    try:
        await find("a.html")
    except NotFound as error:
        print(f"main: there is no {error.page}")

    # A task keeps its error until somebody asks.
    task = asyncio.create_task(find("b.html"))
    await asyncio.sleep(2)
    print("main: asks now")
    try:
        await task
    except Exception as error:
        print(f"main: {error}")

    # Where nobody asks, the loop's exception handler is told; without one, there are lines on stderr.
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: print(f"nobody asked: {context['exception']}")
    )
    task = asyncio.create_task(find("c.html"))
    await asyncio.sleep(2)
    print("main: drops the task")
    del task
    print("main: ends")


asyncio.run(main())
