"""The commands that ask a running server: `wakeful agents …` and `wakeful memory …`."""

import sys
from typing import Annotated

import typer

from gateway.cli_options import ApiKey, Json, Url, server

Agent = Annotated[str, typer.Argument(help="Name or id of an agent.", show_default=False)]

agents = typer.Typer(
    name="agents",
    help="List, create, show, export and import agents. Without a command: list them.",
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@agents.callback()
def _agents(ctx: typer.Context, *, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    if ctx.invoked_subcommand is None:
        list_(url=url, api_key=api_key, as_json=as_json)
    elif url is not None or api_key is not None or as_json:
        raise typer.BadParameter(f"options stand behind {ctx.invoked_subcommand!r}")


@agents.command("list")
def list_(*, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """List all agents, the newest first."""
    from gateway.commands import agents as commands_agents

    commands_agents.list_agents(*server(url, api_key), as_json=as_json)


@agents.command()
def create(
    *,
    name: Annotated[str | None, typer.Option(help="Its name. Left out: the server makes one up.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its model, provider/name; `wakeful doctor` lists them. Left out: the server's."),
    ] = None,
    persona: Annotated[
        str | None, typer.Option(help="Who it is: the text of its memory block `persona`.")
    ] = None,
    human: Annotated[
        str | None, typer.Option(help="What it knows of you: the text of its memory block `human`.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--type",
            help="Its agent type: letta_v1_agent (if left out), memgpt_v2_agent or memgpt_agent.",
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Create an agent with the memory blocks `persona` and `human`. Talk to it with `wakeful chat`."""
    from gateway.commands import agents as commands_agents
    from gateway.commands.agents import NewAgent

    wanted = NewAgent(name=name, model=model, persona=persona, human=human, agent_type=kind)
    commands_agents.create_agent(*server(url, api_key), wanted, as_json=as_json)


@agents.command()
def show(agent: Agent, *, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show an agent's settings and memory. Also what fills its model's window, and its last runs."""
    from gateway.commands import agents as commands_agents

    commands_agents.show_agent(*server(url, api_key), agent, as_json=as_json)


@agents.command()
def export(
    agent: Agent,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="With every message ever said and all of its archival memory.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Write an agent as a file, to standard output. It is an agent file (JSON) as Letta's servers take it."""
    from gateway.commands import export as commands_export

    commands_export.export_agent(*server(url, api_key), agent, full=full)


@agents.command("import")
def import_(
    file: Annotated[str, typer.Argument(help="An agent file; - for standard input.", show_default=False)],
    *,
    name: Annotated[str | None, typer.Option(help="Another name than the file's.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Another model than the file's; `wakeful doctor` lists them.")
    ] = None,
    embedding: Annotated[str | None, typer.Option(help="Another embedding model than the file's.")] = None,
    with_messages: Annotated[
        bool, typer.Option("--messages/--no-messages", help="Whether it keeps what it said and heard.")
    ] = True,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Create the agents of an agent file. What this server has not is left out, and named."""
    from gateway.commands import importing as commands_importing

    wanted = commands_importing.Wanted(
        name=name, model=model, embedding=embedding, with_messages=with_messages
    )
    commands_importing.import_agents(*server(url, api_key), file, wanted, as_json=as_json)


def memory(
    agent: Agent,
    action: Annotated[
        str | None,
        typer.Argument(
            help="`search` or `edit`. Left out: its blocks are shown.",
            show_default=False,
        ),
    ] = None,
    what: Annotated[
        list[str] | None,
        typer.Argument(help="What to search for, or the label of the block to edit.", show_default=False),
    ] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How much a search shows of each kind.")] = 10,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show, search or edit an agent's memory.

    `wakeful memory sam` shows its blocks, `wakeful memory sam search rye bread` looks into its archival
    memory and its conversations, `wakeful memory sam edit human` opens a block in $EDITOR.
    """
    from gateway.commands import memory as commands_memory

    place, words = server(url, api_key), " ".join(what or ())
    match action:
        case None:
            commands_memory.show(*place, agent, as_json=as_json)
        case "search" if words:
            commands_memory.search(*place, agent, words, limit=limit, as_json=as_json)
        case "edit" if words:
            commands_memory.edit(*place, agent, words)
        case _:
            print("wakeful: say `search QUERY` or `edit LABEL` behind the agent's name", file=sys.stderr)
            raise typer.Exit(2)
