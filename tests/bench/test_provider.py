"""The scripted provider as a process, and the helper that drives it."""

import asyncio
import subprocess
import sys

import openai
import pytest

from bench.provider import Provider
from bench.wire import DIMENSIONS


async def test_it_lists_models_and_embeds(provider: Provider) -> None:
    await provider.list_models({"new-one": 4096})
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="x") as client:
        listed = {model.id: model.model_extra or {} for model in (await client.models.list()).data}
        made = await client.embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    assert {"gpt-4o-mini", "gpt-4o", "gpt-4.1"} <= listed.keys()
    assert listed["new-one"]["context_length"] == 4096
    assert [len(item.embedding) for item in made.data] == [DIMENSIONS, DIMENSIONS]


async def test_embeddings_fail_on_command_and_leave_other_answers_alone(provider: Provider) -> None:
    await provider.script([{"text": "for the chat"}, {"status": 503, "embeddings": True}])
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        with pytest.raises(openai.InternalServerError):
            await client.embeddings.create(model="m", input="a")
        made = await client.embeddings.create(model="m", input="a", dimensions=8)
        messages = [{"role": "user", "content": "hi"}]
        said = await client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
    assert len(made.data[0].embedding) == 8
    assert said.choices[0].message.content == "for the chat"


async def test_a_script_that_means_nothing_raises(provider: Provider) -> None:
    with pytest.raises(ValueError, match="explode"):
        await provider.script([{"fault": "explode"}])


async def test_reset_forgets_and_cuts(provider: Provider) -> None:
    await provider.script([{"fault": "hang"}, {"text": "never said"}])
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="x", max_retries=0) as client:
        messages = [{"role": "user", "content": "hi"}]
        async with asyncio.TaskGroup() as group:
            call = group.create_task(hung(client, messages))
            await provider.log(requests=1, keep=True)
            await provider.reset()
        assert call.result()
        made = await client.chat.completions.create(model="fixed-t1", messages=messages)  # type: ignore[arg-type]
    assert made.choices[0].message.content == "word0 "
    assert len(await provider.log()) == 1


async def hung(client: openai.AsyncOpenAI, messages: object) -> bool:
    try:
        await client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
    except openai.APIConnectionError:
        return True
    return False


def test_it_ends_with_its_parent() -> None:
    command = [sys.executable, "-m", "bench.provider", "--with-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready ")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) == 0
