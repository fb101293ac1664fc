"""Encodes messages in whichever dialect a model is written to. Pure."""

from msgspec.structs import replace

from actors.commands import InputMessage
from actors.llm import openai_chat, openai_responses
from actors.llm.dialects import Dialect
from storage.records import Message, ToolReturnPart


def encode_message(message: Message, dialect: Dialect) -> bytes:
    """Return one stored message, ready to be joined by commas; `b""` where there is nothing to send."""
    if dialect.api == "responses":
        return openai_responses.encode_message(message, dialect)
    return openai_chat.encode_message(message, dialect)


def encode_return(part: ToolReturnPart, message: Message, dialect: Dialect) -> bytes:
    """Return one of the results of a tool message, ready to be joined; see `encode_images`."""
    if dialect.api == "responses":
        return openai_responses.encode_message(replace(message, content=(part,)), dialect)
    return openai_chat.encode_return(part, dialect)


def encode_images(message: Message, dialect: Dialect) -> bytes:
    """Return what has to follow the results of a tool message so that their images are seen, or `b""`."""
    if dialect.api == "responses":
        return b""
    returns = (part for part in message.content if isinstance(part, ToolReturnPart))
    return openai_chat.encode_images(returns, dialect)


def encode_input(message: InputMessage, dialect: Dialect) -> bytes:
    """Return an input message as `encode_message` would once it is stored."""
    if dialect.api == "responses":
        return openai_responses.encode_input(message, dialect)
    return openai_chat.encode_input(message, dialect)
