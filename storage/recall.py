"""Search over everything that was said in an agent's conversations: by words, by text, by date."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from storage import recall_search, words
from storage.pool import Conn, Row
from storage.records import Part, Role, TextPart, ToolCallPart

SEARCHED: tuple[Role, ...] = ("user", "assistant", "summary")
QUERY_CHARS = 500  # what of a query counts; nobody looks for more words than that
QUERY_WORDS = 32
FEW = 20_000  # messages of an agent: every match is read
CONVERSATIONS = 200  # of an agent that are asked how much they hold
READ = 1000  # messages that are read for all words of a query together where there are more, and
READ_OF_A_WORD = 100  # at least for each

_UNSENDABLE = {0: " ", **dict.fromkeys(range(0xD800, 0xE000), " ")}  # NUL and lone surrogates


_content = msgspec.json.Decoder(tuple[Part, ...])


class Hit(Struct, frozen=True, kw_only=True):
    """A message that was found. `rank` counts from 1 among hits by words and is None otherwise."""

    message_id: str
    agent_id: str
    conversation_id: str
    position: int
    role: Role
    created_at: datetime
    content: tuple[Part, ...]
    rank: int | None = None

    @property
    def text(self) -> str:
        """Return the words of the message; parts are lines."""
        return "\n".join(words for part in self.content if (words := _words(part)))


async def search(
    conn: Conn,
    *,
    agent_id: str,
    query: str | None = None,
    roles: Sequence[Role] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 5,
    but_run_id: str | None = None,
    conversation_id: str | None = None,
) -> list[Hit]:
    """Return up to `limit` messages of one agent, or of one conversation of it, the best or the newest first.

    A message matches when it shares any word with `query`, stemmed in English; rare words count more
    than frequent ones, and of equals the newer is better; where an agent has much to search, what only
    frequent words bring is a choice, the newest messages among it. A query without such words (stop words,
    punctuation), or whose words nobody used, is looked for as it stands, in any case and also within
    words: that is how scripts without spaces are found. Without a query the newest messages come.

    What an agent says by calling `send_message` counts as its words. Tool rows, heartbeats, system
    messages, excluded messages, deleted conversations and assistant messages that themselves called
    `conversation_search` are left out, and so is the run `but_run_id` that asks.
    `query` is data: no operator in it has a meaning. Both ends of the time span are included. What was
    committed before the search began is found: it fills in the words that lack (`words`), so it is not
    called inside a transaction.
    """
    wanted = [role for role in (roles or SEARCHED) if role in SEARCHED]
    filters = (agent_id, wanted, start, end, but_run_id, limit, conversation_id)
    text = _sought(query)
    operands, many = await _operands(conn, text, agent_id)
    matches = [f"{_lexeme(agent_id)} & {operand}" for operand in operands]
    bound = (_share(matches),) if many else ()
    statement = recall_search.BY_WORDS_OF_MANY if many else recall_search.BY_WORDS
    if matches and (rows := await conn.fetch(statement, *filters, matches, *bound)):
        return [_hit(row, rank) for rank, row in enumerate(rows, start=1)]
    rows = await conn.fetch(recall_search.NEWEST, *filters, f"%{_literal(text)}%" if text else None)
    return [_hit(row) for row in rows]


async def search_everywhere(
    conn: Conn,
    *,
    organization_id: str,
    query: str,
    roles: Sequence[Role] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 5,
) -> list[Hit]:
    """Return up to `limit` messages of all agents of an organisation that match `query`, as `search` does.

    However much was said, a bounded part of it is read for words that somebody used. Messages are found whose
    words are filled in: the caller sees to that before (`words`), as this does not look through everything.
    """
    wanted = [role for role in (roles or SEARCHED) if role in SEARCHED]
    filters = (organization_id, wanted, start, end, None, limit, None)
    text = _sought(query)
    said = await conn.fetch(recall_search.WORDS_EVERYWHERE, text, QUERY_WORDS) if text else []
    matches = [_lexeme(row["lexeme"]) for row in said]
    everywhere = recall_search.BY_WORDS_EVERYWHERE
    if matches and (rows := await conn.fetch(everywhere, *filters, matches, _share(matches))):
        return [_hit(row, rank) for rank, row in enumerate(rows, start=1)]
    rows = await conn.fetch(
        recall_search.NEWEST_EVERYWHERE, *filters, f"%{_literal(text)}%" if text else None
    )
    return [_hit(row) for row in rows]


def _sought(query: str | None) -> str:
    return (query or "")[:QUERY_CHARS].translate(_UNSENDABLE).strip()


async def _operands(conn: Conn, text: str, agent_id: str) -> tuple[list[str], bool]:
    """Return the words to look for, each as an operand of a tsquery, and whether there is much to search.

    Then the index knows every message of the agent that is committed by now.
    """
    asked = (text, QUERY_WORDS, agent_id, CONVERSATIONS)
    rows = await conn.fetch(recall_search.WORDS, *asked) if text else []
    if rows and rows[0]["behind"]:
        await words.fill(conn, rows[0]["behind"])
    said = rows[0]["said"] if rows else None
    return [_lexeme(row["lexeme"]) for row in rows], said is None or said > FEW


def _share(matches: Sequence[str]) -> int:
    """Return how many messages are read at most for each of these words."""
    return max(READ_OF_A_WORD, READ // max(1, len(matches)))


class _Spoken(Struct, frozen=True):
    """The arguments of a call by which an agent speaks."""

    message: str = ""


def _words(part: Part) -> str:
    match part:
        case TextPart(text):
            return text
        case ToolCallPart(name="send_message", arguments=arguments):
            try:
                return msgspec.json.decode(arguments, type=_Spoken).message
            except msgspec.DecodeError:
                return ""
        case _:
            return ""


def _lexeme(word: str) -> str:
    """Return `word` as one operand of a tsquery, whatever characters it has."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _literal(text: str) -> str:
    """Return `text` as a pattern of `like` that means itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _hit(row: Row, rank: int | None = None) -> Hit:
    return Hit(
        message_id=row["id"],
        agent_id=row["agent_id"],
        conversation_id=row["conversation_id"],
        position=row["position"],
        role=row["role"],
        created_at=row["created_at"],
        content=_content.decode(row["content"]),
        rank=rank,
    )
