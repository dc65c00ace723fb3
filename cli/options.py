"""Options that several verbs share, and what they open."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from limen.cli.output import note

if TYPE_CHECKING:
    from limen.bundle import Bundle
    from limen.detection import Detector
    from limen.device.gallery import Gallery
    from limen.device.gallery.keys import KeySource, Passphrase
    from limen.embedder import Embedder

BundleOption = Annotated[
    Path | None,
    typer.Option("--bundle", "-b", envvar="LIMEN_BUNDLE", help="A .limen file; the shipped one."),
]
RuntimeOption = Annotated[
    str | None, typer.Option(help="tflite or onnx; the first that is installed.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help="float32, float16 or int8; the bundle's default.")
]
YuNetOption = Annotated[
    Path | None,
    typer.Option("--yunet", envvar="LIMEN_YUNET", help="A YuNet ONNX file, as the face finder."),
]
GalleryOption = Annotated[
    Path | None,
    typer.Option("--gallery", "-g", envvar="LIMEN_GALLERY", help="The gallery's file."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The door's TOML file; options win over it.")
]
RequiredConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The door's TOML file.")]
SourceOption = Annotated[
    str | None, typer.Option(help="camera, camera:N, a video, a folder, a picture, rtsp://…")
]
NearestOption = Annotated[
    bool, typer.Option(help="Where several faces are seen, take the nearest.")
]
DryRunOption = Annotated[bool, typer.Option(help="Say what would change, and change nothing.")]
SubjectArgument = Annotated[str, typer.Argument(help="The subject's id.")]
PassphraseFileOption = Annotated[
    Path | None,
    typer.Option(help="A file whose first line is the passphrase; else it is asked for."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@dataclass(frozen=True)
class Recognition:
    """A bundle with its finder and embedder opened."""

    bundle: Bundle
    detector: Detector
    embedder: Embedder


def open_recognition(
    bundle: Path | None,
    runtime: str | None = None,
    precision: str | None = None,
    yunet: Path | None = None,
    gallery: Path | None = None,
) -> Recognition:
    """Open what turns a picture into an embedding.

    gallery: whose door it is for; what `limen tune` chose for it is used where neither runtime nor
    precision is named.
    """
    from limen.bundle import open_bundle
    from limen.device.models import open_models

    opened = open_bundle(bundle)
    detector, embedder = open_models(
        opened, gallery, runtime=runtime, precision=precision, yunet=yunet
    )
    return Recognition(opened, detector, embedder)


def gallery_path(path: Path | None) -> Path:
    """The gallery that was named, else the user's own."""
    if path is not None:
        return path
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "limen" / "gallery.db"


def open_gallery(
    path: Path | None,
    *,
    model_id: str | None = None,
    create: bool = False,
    key: Path | None = None,
    need: str | None = None,
) -> Gallery:
    """Open the gallery that was named, else the user's own, with the key that fits.

    need: the right that the verb asks for, once the gallery has an owner. The key is `key`, else
    LIMEN_KEY's file, LIMEN_PASSPHRASE_FILE's passphrase, systemd's credential, or the file beside
    the gallery; a passphrase is asked for on a terminal. Whoever's time is over is erased first.
    """
    import datetime
    import getpass

    from limen.device.gallery import Gallery
    from limen.device.gallery.keys import Passphrase
    from limen.device.gallery.vault import WrongKindOfKeyError

    where = gallery_path(path)
    source: KeySource | None = gallery_key(key)
    try:
        actor = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        actor = str(os.getuid())
    try:
        opened = Gallery.open(where, model_id=model_id, create=create, key=source, actor=actor)
    except WrongKindOfKeyError:
        if isinstance(source, Passphrase) or not sys.stdin.isatty():
            raise
        source = Passphrase(typer.prompt("The gallery's passphrase", hide_input=True, err=True))
        opened = Gallery.open(where, model_id=model_id, create=create, key=source, actor=actor)
    if opened.made_key is not None:
        note(
            f"made the gallery's key, {opened.made_key}: keep a copy where the gallery is not; "
            "without it the gallery does not open"
        )
        note("nobody owns the gallery yet, so no right is asked for: limen owner set")
    if need is not None:
        try:
            authorise(opened, need)
        except BaseException:
            opened.close()
            raise
    if erased := opened.erase_expired(datetime.datetime.now(datetime.UTC)):
        note(f"{len(erased)} whose time was over erased")
    return opened


def authorise(opened: Gallery, right: str | None) -> None:
    """Ask for the owner's or an operator's passphrase, where the gallery has an owner.

    right: None for what only the owner may do. LIMEN_OPERATOR names who asks, the owner where it
    does not; LIMEN_OPERATOR_PASSPHRASE_FILE holds the passphrase, else a terminal is asked.
    AccessError where neither gives it, or it is wrong.
    """
    from limen.device.gallery import access

    if not access.has_owner(opened.store):
        return
    name = os.environ.get("LIMEN_OPERATOR") or access.OWNER
    if file := os.environ.get("LIMEN_OPERATOR_PASSPHRASE_FILE"):
        passphrase = read_passphrase(Path(file))
    elif sys.stdin.isatty():
        passphrase = typer.prompt(f"The passphrase of '{name}'", hide_input=True, err=True)
    else:
        raise access.AccessError(
            "this needs the owner, or an operator with that right: name a file with the passphrase "
            "in LIMEN_OPERATOR_PASSPHRASE_FILE, and an operator in LIMEN_OPERATOR"
        )
    access.require(opened.store, name, passphrase, access.Right(right) if right else None)


def require_owner(opened: Gallery) -> None:
    """Have an owner before a door with a real lock starts: one is made on a terminal.

    AccessError where there is neither an owner nor a terminal.
    """
    from limen.device.gallery import access

    if access.has_owner(opened.store):
        return
    if not sys.stdin.isatty():
        raise access.AccessError(
            f"{opened.path}: nobody owns this gallery, and a door with a real lock starts only with "
            "an owner: run 'limen owner set' first"
        )
    note("this door has a real lock and no owner yet: choose the owner's passphrase")
    access.set_owner(opened.store, new_passphrase(None))


def new_passphrase(path: Path | None) -> Passphrase:
    """A new passphrase, from a file's first line or typed twice. GalleryKeyError for a short one."""
    from limen.device.gallery.keys import Passphrase, checked_passphrase

    text = (
        read_passphrase(path)
        if path is not None
        else typer.prompt("The new passphrase", hide_input=True, confirmation_prompt=True, err=True)
    )
    return Passphrase(checked_passphrase(text))


def gallery_key(path: Path | None = None) -> KeySource | None:
    """The key that was named; None for the file beside the gallery."""
    from limen.device.gallery.keys import KeyFile, Passphrase, credential_key

    if path is not None:
        return KeyFile(path)
    if named := os.environ.get("LIMEN_KEY"):
        return KeyFile(Path(named))
    if named := os.environ.get("LIMEN_PASSPHRASE_FILE"):
        return Passphrase(read_passphrase(Path(named)))
    return credential_key()


def read_passphrase(path: Path) -> str:
    """The first line of a file. ConfigError where it cannot be read."""
    from limen.errors import ConfigError

    try:
        return path.read_text("utf-8").split("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the passphrase cannot be read: check the file") from error
