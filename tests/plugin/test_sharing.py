import asyncio

import pytest

from vqathinker_verl.plugin.sharing import SingleFlight


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, timeout=10))


def counted(calls, result="prepared", error=None):
    async def make():
        calls.append(1)
        await asyncio.sleep(0.01)
        if error:
            raise error
        return result

    return make


def test_sessions_of_one_prompt_share_one_run():
    async def scenario():
        work, calls = SingleFlight(), []

        async def session():
            async with work.use("prompt", counted(calls)) as value:
                await asyncio.sleep(0.02)
                return value

        assert await asyncio.gather(*[session() for _ in range(8)]) == ["prepared"] * 8
        assert len(calls) == 1

    run(scenario())


def test_the_next_step_runs_again_and_nothing_is_kept():
    async def scenario():
        work, calls = SingleFlight(), []
        for _ in range(2):
            async with work.use("prompt", counted(calls)):
                pass
        assert len(calls) == 2
        assert not work._tasks
        assert not work._users

    run(scenario())


def test_keys_are_separate():
    async def scenario():
        work = SingleFlight()
        async with work.use("a", counted([], "A")) as a, work.use("b", counted([], "B")) as b:
            assert (a, b) == ("A", "B")

    run(scenario())


def test_an_error_reaches_every_session():
    async def scenario():
        work, calls = SingleFlight(), []

        async def session():
            async with work.use("prompt", counted(calls, error=OSError("no such video"))):
                pytest.fail("must not get here")

        results = await asyncio.gather(*[session() for _ in range(4)], return_exceptions=True)
        assert [str(result) for result in results] == ["no such video"] * 4
        assert len(calls) == 1
        assert not work._tasks

    run(scenario())


def test_a_cancelled_session_does_not_cancel_the_others():
    async def scenario():
        work = SingleFlight()

        async def session():
            async with work.use("prompt", counted([])) as value:
                return value

        first, second = asyncio.ensure_future(session()), asyncio.ensure_future(session())
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "prepared"

    run(scenario())
