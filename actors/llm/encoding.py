"""Encodes messages in whichever dialect a model is written to. Pure."""

from actors.commands import InputMessage
from actors.llm import openai_chat, openai_responses
from actors.llm.dialects import Dialect
from storage.records import Message


def encode_message(message: Message, dialect: Dialect) -> bytes:
    """Return one stored message, ready to be joined by commas; `b""` where there is nothing to send."""
    if dialect.api == "responses":
        return openai_responses.encode_message(message, dialect)
    return openai_chat.encode_message(message, dialect)


def encode_input(message: InputMessage, dialect: Dialect) -> bytes:
    """Return an input message as `encode_message` would once it is stored."""
    if dialect.api == "responses":
        return openai_responses.encode_input(message, dialect)
    return openai_chat.encode_input(message, dialect)
