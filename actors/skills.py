"""The skills that a client offers with a message, as a section of the system message. Pure."""

from collections.abc import Sequence

from actors.commands import ClientSkill
from actors.llm import openai_chat


def section(skills: Sequence[ClientSkill]) -> str:
    """Return the section of a system message that names the skills, or nothing where there are none."""
    if not skills:
        return ""
    named = "\n".join(_skill(skill) for skill in skills)
    return f"<available_skills>\n{named}\n</available_skills>"


def joined(system_wire: bytes, section: str) -> bytes:
    """Return an encoded system message with the section after its text; as it is without one."""
    if not section:
        return system_wire
    text = openai_chat.system_text(system_wire).rstrip("\n")
    return openai_chat.encode_system(f"{text}\n\n{section}")


def _skill(skill: ClientSkill) -> str:
    return "\n".join(
        (
            "<skill>",
            f"<name>{skill.name}</name>",
            f"<description>{skill.description}</description>",
            f"<location>{skill.location}</location>",
            "</skill>",
        )
    )
