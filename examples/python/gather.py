"""`gather` awaits several coroutines at once. The results come in the order of the arguments."""

import asyncio


async def square(n):
    await asyncio.sleep(5 - n)
    print(f"square of {n}")
    return n * n


async def fails():
    await asyncio.sleep(0.5)
    raise Exception("out of paper")


async def hello():
    return "hello"


async def main():
    squares = await asyncio.gather(square(2), square(3), square(4))
    print(squares)
    # The results may be of any types.
    sixteen, greeting = await asyncio.gather(square(4), hello())
    print(sixteen, greeting)

    # The first error is raised at once, while the others run on.
    try:
        values = await asyncio.gather(square(4), fails())
        print(values)
    except Exception as error:
        print(f"failed: {error}")
    await asyncio.sleep(1)

    # To have them all, errors included.
    four, failed = await asyncio.gather(square(4), fails(), return_exceptions=True)
    print(f"{four}, {failed}")


asyncio.run(main())
