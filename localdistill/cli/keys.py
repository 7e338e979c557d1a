"""Commands on API keys: set, list, remove, allow. A key is typed where nobody sees it or piped in; it is never an
argument, and no command prints one."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from localdistill.cli import output
from localdistill.cli.arguments import JsonOption

app = typer.Typer(no_args_is_help=True, help="Keep API keys, each bound to the host it may go to.")

NameArgument = Annotated[str, typer.Argument(help="A provider, or the name of an environment variable. Never a key.")]
HostOption = Annotated[str, typer.Option("--host", help="The host that the key is for. Default: the provider's.")]


def register(parent: typer.Typer) -> None:
    """Add the group of this file."""
    parent.add_typer(app, name="keys")


@app.command("set", help="Keep a key: typed at a hidden prompt, or read from standard input.")
def set_key(name: NameArgument, host: HostOption = "", as_json: JsonOption = False) -> None:
    """Store one key."""
    from localdistill import keep_key, key_target, keys_path

    variable, where = key_target(name, host)
    entry = keep_key(name, output.ask_hidden(f"key {variable} for {where}: "), host)
    if as_json:
        output.data_json(dataclasses.asdict(entry))
        return
    place = "the system's keyring" if entry.source == "keyring" else str(keys_path())
    output.talk(f"kept {entry.name} for {entry.host} in {place}")


@app.command("list", help="List names, hosts and origins of keys, and what was approved. Never the keys.")
def list_all(as_json: JsonOption = False) -> None:
    """Names and hosts."""
    from localdistill import list_keys

    found = list_keys()
    if as_json:
        output.data_json({
            "keys": [dataclasses.asdict(line) for line in found if line.source != "approved"],
            "approvals": [{"name": line.name, "host": line.host} for line in found if line.source == "approved"],
        })
        return
    output.table(["name", "host", "from"], [[line.name, line.host, line.source] for line in found])


@app.command("remove", help="Forget a stored key and the approvals of its name.")
def remove(name: NameArgument, host: HostOption = "", as_json: JsonOption = False) -> None:
    """Remove from the keyring and from the file."""
    from localdistill import forget_key

    gone = forget_key(name, host)
    if as_json:
        output.data_json([dataclasses.asdict(entry) for entry in gone])
        return
    for entry in gone:
        output.talk(f"forgot {entry.name} for {entry.host}")


@app.command("allow", help="Approve that an environment variable is sent to a host.")
def allow_host(
    variable: Annotated[str, typer.Argument(metavar="ENV", help="Name of the environment variable.")],
    host: Annotated[str, typer.Argument(help="The host that may have it.")],
    as_json: JsonOption = False,
) -> None:
    """Store an approval."""
    from localdistill import allow_key

    given = allow_key(variable, host)
    if as_json:
        output.data_json({"name": given.name, "host": given.host})
    else:
        output.talk(f"{given.name} may now be sent to {given.host}; undo: localdistill keys remove {given.name}")
