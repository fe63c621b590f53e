"""`shield` keeps a timeout from cancelling what it waits for: main gives up in time, and the upload goes on."""

import asyncio


async def upload():
    print("upload: starts")
    await asyncio.sleep(3)
    print("upload: ends")
    return "3 files"


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    def elapsed():
        return clock.time() - start

    task = asyncio.create_task(upload())
    try:
        uploaded = await asyncio.wait_for(asyncio.shield(task), 1)
        print(f"main: in time: {uploaded}")
    except TimeoutError:
        print(f"main: not done after {elapsed():.1f} s")

    # The timeout cancelled the shield, not the task.
    uploaded = await task
    print(f"main: {uploaded} after {elapsed():.1f} s")


asyncio.run(main())
