"""A `Future` is a result that somebody will set: here one task sets it, and two wait for it."""

import asyncio


async def oven(bread):
    print("oven: baking")
    await asyncio.sleep(2)
    print("oven: done")
    bread.set_result("a fresh loaf")


async def guest(name, bread):
    print(f"{name}: waits")
    print(f"{name}: gets {await bread}")


async def main():
    bread = asyncio.get_running_loop().create_future()
    baking = asyncio.create_task(oven(bread))
    first = asyncio.create_task(guest("first", bread))
    second = asyncio.create_task(guest("second", bread))
    await first
    await second
    print(f"main: everybody got {bread.result()}")


asyncio.run(main())
