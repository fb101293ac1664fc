"""The commands that ask a running server: `wakeful agents …` and `wakeful memory …`."""

import sys
from typing import Annotated

import typer

from gateway.cli_options import ApiKey, Json, Url, server

Agent = Annotated[str, typer.Argument(help="Name or id of an agent.", show_default=False)]

agents = typer.Typer(
    name="agents",
    help="List, create, show and export agents of a running server.",
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
    """List the agents, the newest first."""
    from gateway.commands import agents as commands_agents

    commands_agents.list_agents(*server(url, api_key), as_json=as_json)


@agents.command()
def create(
    *,
    name: Annotated[str | None, typer.Option(help="Its name; made up where it is left out.")] = None,
    model: Annotated[str | None, typer.Option(help="Handle of its model, provider/name.")] = None,
    persona: Annotated[str | None, typer.Option(help="Text of its block `persona`.")] = None,
    human: Annotated[str | None, typer.Option(help="Text of its block `human`.")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="Its agent type.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Create an agent with the blocks `persona` and `human`."""
    from gateway.commands import agents as commands_agents
    from gateway.commands.agents import NewAgent

    wanted = NewAgent(name=name, model=model, persona=persona, human=human, agent_type=kind)
    commands_agents.create_agent(*server(url, api_key), wanted, as_json=as_json)


@agents.command()
def show(agent: Agent, *, url: Url = None, api_key: ApiKey = None, as_json: Json = False) -> None:
    """Show an agent: its settings, its blocks, what fills its window, its last runs."""
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
    """Write an agent to standard output as an agent file (JSON)."""
    from gateway.commands import export as commands_export

    commands_export.export_agent(*server(url, api_key), agent, full=full)


def memory(
    agent: Agent,
    action: Annotated[
        str | None, typer.Argument(help="`search QUERY` or `edit LABEL`.", show_default=False)
    ] = None,
    what: Annotated[list[str] | None, typer.Argument(show_default=False)] = None,
    *,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How much a search shows of each kind.")] = 10,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: Json = False,
) -> None:
    """Show an agent's memory blocks; search what it keeps; edit a block in $EDITOR."""
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
            print("wakeful: say `search QUERY` or `edit LABEL` after the agent", file=sys.stderr)
            raise typer.Exit(2)
