"""Verbs over a bundle's signatures: keygen, sign."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from limen.cli.options import JsonOption
from limen.cli.output import say, say_json

PASSPHRASE_VARIABLE = "LIMEN_KEY_PASSPHRASE"
PassphraseOption = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", help=f"A file whose first line is it; ${PASSPHRASE_VARIABLE}."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's verbs."""
    app.command()(keygen)
    app.command()(sign)


def keygen(
    path: Annotated[Path, typer.Argument(help="The private key to write; .pub goes beside it.")],
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Make an Ed25519 key pair: sign with the private one, put the public one on boards."""
    from limen.signing import generate_key_pair

    public, key = generate_key_pair(path, _passphrase(passphrase_file))
    if json:
        say_json({"private": str(path), "public": str(public), "key_id": key.key_id})
        return
    say(f"key {key.key_id}: private {path} (keep it off the boards), public {public}")
    say(f"on each board: sudo install -Dm644 {public} /etc/limen/trusted-keys/{public.name}")


def sign(
    path: Annotated[Path, typer.Argument(help="A .limen file; it is replaced by the signed one.")],
    key: Annotated[Path, typer.Option(help="The private key of 'limen bundle keygen'.")],
    out: Annotated[Path | None, typer.Option(help="Write here, and leave the file alone.")] = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Sign a bundle: whoever trusts the key can tell that it left here as it is."""
    from limen.bundle import read_bundle_file
    from limen.files import write_atomically
    from limen.sealing import signed
    from limen.signing import load_private_key

    content, signature = signed(
        read_bundle_file(path), load_private_key(key, _passphrase(passphrase_file)), str(path)
    )
    target = out or path
    with write_atomically(target) as file:
        file.write(content)
    if json:
        say_json({"bundle": str(target), "key_id": signature.key_id})
        return
    say(f"signed {target} with key {signature.key_id}")


def _passphrase(file: Path | None) -> bytes | None:
    from limen.errors import KeyFileError

    if file is None:
        return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None
    try:
        with file.open("rb") as opened:
            line = opened.readline(4096).rstrip(b"\r\n")
    except OSError as error:
        raise KeyFileError(f"{file}: cannot be read ({error.strerror})") from error
    if not line:
        raise KeyFileError(f"{file}: expected a passphrase in its first line, found none")
    return line
