"""A process that owns an embedder's child, tells its id, and waits to be killed."""

import asyncio

from actors.embedder import process


async def main() -> None:
    child = await process.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main())
