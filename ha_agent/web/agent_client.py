"""Asks the agent of this node over its control socket, without blocking: a connection a question, each with a deadline."""

from __future__ import annotations

import asyncio

from ha_agent.core.frames import FrameDecoder, FrameError, Message, encode_frame
from ha_agent.core.places import RunPlaces
from ha_agent.core.reasons import reason_of
from ha_agent.core.visible import visible_data


class AgentSilent(Exception):
    """The agent did not answer; the text says why."""


class AgentRefused(Exception):
    """The agent would not, or could not do it; the text is its own."""


class AgentClient:
    """Questions to one agent, ``at_once`` at most: however many pages are asked for, operators' own commands find room."""

    def __init__(self, run_dir: str, at_once: int) -> None:
        self._places = RunPlaces(run_dir)
        self._slots = asyncio.Semaphore(at_once)

    async def ask(self, message: Message, timeout_s: float, by: str | None = None, *, raw: bool = False) -> Message:
        """The answer to ``message``, asked on behalf of ``by``. Raises ``AgentSilent`` and ``AgentRefused``.

        What steers a reader's eye is written out in its texts, unless ``raw``.
        """
        behalf = {} if by is None else {"on_behalf": by}
        try:
            async with asyncio.timeout(timeout_s), self._slots:
                answer = await self._ask({**message, **behalf, "id": 1})
        except TimeoutError:
            raise AgentSilent(f"the agent did not answer within {timeout_s:g} s") from None
        # A page is no terminal: lines may be lines there.
        return answer if raw else dict(visible_data(answer, "\n\t"))

    async def _ask(self, message: Message) -> Message:
        reader, writer = await self._connect()
        try:
            writer.write(encode_frame(message))
            decoder = FrameDecoder()
            while data := await reader.read(262144):
                for answer in decoder.feed(data):
                    if "progress" in answer:
                        continue
                    if "error" in answer:
                        raise AgentRefused(str(answer["error"]))
                    answer.pop("id", None)
                    return answer
        except (OSError, FrameError) as error:
            raise AgentSilent(f"the agent's connection broke: {reason_of(error)}") from None
        finally:
            writer.close()
        raise AgentSilent("the agent closed the connection; see its log (journalctl -u ha-agent)")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        problem = ""
        for path in (self._places.control_socket, self._places.read_socket):
            try:
                return await asyncio.open_unix_connection(path)
            except PermissionError:
                problem = f"no permission for {path}: the user must be in group ha-agent, or ha-agent-read to look only"
            except OSError as error:
                raise AgentSilent(f"the agent of this node does not run ({path}: {error.strerror})") from None
        raise AgentSilent(problem)
