"""The command line: `wakeful serve`, `chat`, `agents`, `memory`, `doctor`, `migrate`.

Each command imports what it needs when it runs, so that help is quick and a server holds nothing of a
terminal program.
"""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer

from gateway import cli_agents, config
from gateway.cli_options import ApiKey, Url, server
from gateway.commands.errors import CommandError
from gateway.config import SettingsError
from storage.errors import StorageError

FAILED, MISUSED = 1, 2  # exit codes

app = typer.Typer(
    name="wakeful",
    help="A server for LLM agents that stay alive, and a chat to talk to them. Start with `wakeful serve`, "
    "then `wakeful chat` in another terminal.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables, and with them keys
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line. What is wrong with the settings or the database is told in one line."""
    try:
        app()
    except SettingsError as error:
        _leave(error, MISUSED)
    except (StorageError, CommandError) as error:
        _leave(error, FAILED)
    except ExceptionGroup as group:  # what several tasks of the server failed with
        error = _first(group, StorageError)
        if error is None:
            raise
        _leave(error, FAILED)


def _leave(error: Exception, code: int) -> None:
    print(f"wakeful: {error}", file=sys.stderr)
    sys.exit(code)


def _first(group: ExceptionGroup[Exception], kind: type[Exception]) -> Exception | None:
    """Return the first error of a kind in a group that holds nothing else."""
    known, others = group.split(kind)
    while known is not None and others is None:
        error = known.exceptions[0]
        if not isinstance(error, ExceptionGroup):
            return error
        known = cast("ExceptionGroup[Exception]", error)
    return None


def _options(*names: str) -> inspect.Signature:
    """Return a signature with an option for each of these settings, for all of them where none is named.

    Values stay text: `config.load` checks flags and variables alike.
    """
    return inspect.Signature(
        [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[str | None, _option(field)],
            )
            for field in config.fields()
            if not names or field.name in names
        ]
    )


def _with_settings(command: Callable[..., None]) -> inspect.Signature:
    """Return a command's signature with an option for every setting in place of its `**flags`."""
    own = inspect.signature(command)
    named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return own.replace(parameters=[*named, *_options().parameters.values()])


def _option(field: config.Field) -> Any:
    variables = " or ".join((field.env, *field.aliases))
    default = f"; default {field.default}" if field.default else ""
    return typer.Option(
        field.flag,
        metavar=field.type.upper().replace(", ", "|"),
        help=f"{field.description.replace('`', '')} ({variables}{default})",
        show_default=False,
    )


def serve(**flags: str | None) -> None:
    """Start the server; Ctrl-C stops it. Without a database URL it brings its own Postgres."""
    settings = config.load(os.environ, flags)
    from gateway.serve import serve

    sys.exit(serve(settings, os.environ))


def migrate(**flags: str | None) -> None:
    """Update the database to this release. `serve` does so as well."""
    settings = config.load(os.environ, flags)
    from gateway import database

    applied = database.bring_up_to_date(settings)
    print(f"applied: {', '.join(applied)}" if applied else "nothing to do: the schema is this release's")


def chat(
    agent: Annotated[
        str | None,
        typer.Argument(
            help="Name or id of an agent; `wakeful agents` lists them. Left out: a new one is created.",
            show_default=False,
        ),
    ] = None,
    *,
    url: Url = None,
    api_key: ApiKey = None,
) -> None:
    """Talk to an agent. Ctrl-C stops an answer, Ctrl-D leaves; the agent remembers.

    Where the agent must ask before it uses a tool, you are asked. Through a pipe every line is a message.
    """
    address, key = server(url, api_key)
    from gateway.chat.chat import chat

    sys.exit(chat(agent, url=address, api_key=key))


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
    models: Annotated[
        bool, typer.Option(help="Ask each configured model real questions; a few hundred tokens.")
    ] = True,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that one question to a model may take.")
    ] = 60,
    **flags: str | None,
) -> None:
    """Look for what is wrong with this installation and say what to do. Changes nothing."""
    from gateway.commands import doctor as commands_doctor

    code = commands_doctor.run(os.environ, flags, as_json=as_json, with_models=models, deadline=timeout)
    sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"wakeful {version('wakeful')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    del version


serve.__signature__ = _options()  # type: ignore[attr-defined]
migrate.__signature__ = _options("database_url", "data_dir")  # type: ignore[attr-defined]
doctor.__signature__ = _with_settings(doctor)  # type: ignore[attr-defined]
for _command in (serve, chat, cli_agents.memory, doctor, migrate):
    app.command()(_command)
app.add_typer(cli_agents.agents)


if __name__ == "__main__":
    main()
