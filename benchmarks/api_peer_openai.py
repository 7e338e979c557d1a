"""The peer of `api_engine`: AsyncOpenAI with a wide connection pool. Runs in the peer's interpreter, imports nothing of
this project, prints one JSON line."""

from __future__ import annotations

import asyncio
import json
import sys
import time

try:
    import httpx2 as http_library
except ImportError:
    import httpx as http_library
import openai


async def main(url: str, count: int, in_flight: int, stream: bool) -> dict[str, object]:
    """Ask `count` questions with `in_flight` workers."""
    limits = http_library.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    client = openai.AsyncOpenAI(base_url=url, api_key="x", http_client=openai.DefaultAsyncHttpxClient(limits=limits))
    numbers = iter(range(count))
    complete = 0

    async def ask(number: int) -> bool:
        messages = [{"role": "user", "content": f"Question {number}"}]
        if not stream:
            reply = await client.chat.completions.create(model="mock", messages=messages, max_tokens=1024)
            return reply.choices[0].finish_reason == "stop" and bool(reply.choices[0].message.content)
        parts, finish = [], None
        async for event in await client.chat.completions.create(
                model="mock", messages=messages, max_tokens=1024, stream=True, stream_options={"include_usage": True}):
            if event.choices:
                parts.append(event.choices[0].delta.content or "")
                finish = event.choices[0].finish_reason or finish
        return finish == "stop" and bool("".join(parts))

    async def work() -> None:
        nonlocal complete
        for number in numbers:
            is_complete = await ask(number)
            complete += is_complete

    await ask(-1)
    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    found = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    assert complete == count, f"{count - complete} replies are not complete"
    return {**found, "openai": openai.__version__, "http": f"{http_library.__name__} {http_library.__version__}"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(**json.loads(sys.argv[1])))) + "\n")
