"""`dualtower key`: make an API key."""

from __future__ import annotations

from typing import Annotated

import typer


def key_command(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in metrics and logs.")],
) -> None:
    """Make an API key and the line under which `serve` knows it.

    The first line is the key, for the client; it is kept nowhere. The second one is for DUALTOWER_API_KEYS, or for
    the file that DUALTOWER_API_KEYS_FILE names.
    """
    from service.keys import new_key

    key, line = new_key(name)
    typer.echo(f"key  {key}")
    typer.echo(f"line {line}")
