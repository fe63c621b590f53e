"""A cancel is a request: the task cleans up with further awaits, and may refuse to end."""

import asyncio


async def editor():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        print("editor: one moment, saving")
        await asyncio.sleep(1)
        print("editor: saved")
        # Raising the error again would end the task as cancelled. This one goes on, and has a result.
        return "a saved text"
    return "a finished text"


async def main():
    clock = asyncio.get_running_loop()
    start = clock.time()

    task = asyncio.create_task(editor())
    await asyncio.sleep(2)
    print("main: cancels the editor")
    # The request is noted here. The editor hears of it when main awaits.
    task.cancel()
    print("main: waits for the editor")
    text = await task

    print(f"main: got {text} after {clock.time() - start:.1f} s")
    print(f"main: the editor {'was cancelled' if task.cancelled() else 'was not cancelled'}")


asyncio.run(main())
