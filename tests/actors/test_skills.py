"""How the skills of a client are named in a system message."""

from actors import skills
from actors.commands import ClientSkill
from actors.llm import openai_chat

SKILLS = (
    ClientSkill(name="pdf", description="Read and write PDF files", location="/skills/pdf/SKILL.md"),
    ClientSkill(name="git", description="Keep <versions>", location="/skills/git/SKILL.md"),
)


def test_skills_are_named_in_their_order_with_what_they_are_for_and_where_they_are() -> None:
    section = skills.section(SKILLS)
    assert section.startswith("<available_skills>\n<skill>\n<name>pdf</name>\n")
    assert section.endswith("</skill>\n</available_skills>")
    for skill in SKILLS:
        assert f"<description>{skill.description}</description>\n" in section
        assert f"<location>{skill.location}</location>\n" in section


def test_the_section_stands_behind_the_system_message() -> None:
    wire = openai_chat.encode_system("You are brief.\n")
    text = openai_chat.system_text(skills.joined(wire, skills.section(SKILLS)))
    assert text == f"You are brief.\n\n{skills.section(SKILLS)}"


def test_without_skills_the_system_message_stays_as_it_is() -> None:
    wire = openai_chat.encode_system("You are brief.\n")
    assert skills.section(()) == ""
    assert skills.joined(wire, "") is wire
