"""What a task tells about itself: its name, whether it is done, and how it ended."""

import asyncio


async def job(seconds, outcome):
    await asyncio.sleep(seconds)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def describe(task):
    # What does not wait needs no await: these methods look at the task as it is.
    try:
        state = f"done, the result is {task.result()}"
    except asyncio.InvalidStateError:
        state = "pending"
    except asyncio.CancelledError as error:
        state = f"cancelled, because {error}"
    except Exception as error:
        state = f"failed: {error}"
    return f"{task.get_name()}: {state}"


async def main():
    tasks = [
        asyncio.create_task(job(1, 7), name="good"),
        asyncio.create_task(job(2, Exception("no ink")), name="bad"),
        asyncio.create_task(job(60, 0), name="ugly"),
    ]
    for task in tasks:
        print(describe(task))

    await asyncio.sleep(3)
    # To be cancelled is not to be done: the task hears of it in the next turn of the loop.
    tasks[2].cancel("it is late")
    print(describe(tasks[2]))
    await asyncio.wait(tasks)
    for task in tasks:
        print(describe(task))

    # `exception` is for those who expect an error, or none.
    for task in tasks:
        if task.done() and not task.cancelled():
            if task.exception():
                print(f"{task.get_name()}: the error is {task.exception()}")
            else:
                print(f"{task.get_name()}: no error")


asyncio.run(main())
