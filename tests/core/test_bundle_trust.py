"""Signatures, trusted keys, and the memory that notices an older bundle."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from limen.bundle import open_bundle, parse_bundle
from limen.errors import BundleError, KeyFileError, UntrustedBundleError
from limen.sealing import signed
from limen.signing import (
    SIGNATURES,
    PublicKey,
    generate_key_pair,
    load_private_key,
    load_public_key,
)
from limen.trust import NO_TRUST, Trust, board_trust

Sign = Callable[..., bytes]


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, PublicKey]:
    """Two key pairs in files 'maker.key' and 'other.key'."""
    return {name: generate_key_pair(tmp_path / f"{name}.key")[1] for name in ("maker", "other")}


@pytest.fixture
def sign(tmp_path: Path, keys: dict[str, PublicKey]) -> Sign:
    def make(content: bytes, key: str = "maker") -> bytes:
        return signed(content, load_private_key(tmp_path / f"{key}.key"), "a bundle")[0]

    return make


def test_signed_bundle_opens_for_who_trusts_its_key(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    content = sign(by_hand.sealed())
    bundle = parse_bundle(content, "x", Trust((keys["other"], keys["maker"])))
    assert bundle.signer == keys["maker"]
    assert parse_bundle(content, "x").signer is None
    assert bundle.manifest == parse_bundle(by_hand.sealed(), "x").manifest


def test_signing_twice_by_one_key_keeps_one_signature_and_by_two_both(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    once = sign(by_hand.sealed())
    assert sign(once) == once
    both = parse_bundle(sign(once, "other"), "x", Trust((keys["other"],)))
    assert {s.key_id for s in both.signatures} == {key.key_id for key in keys.values()}


def test_missing_signature_is_refused_with_the_reason(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey]
) -> None:
    with pytest.raises(UntrustedBundleError, match=r"not signed.*limen bundle sign"):
        parse_bundle(by_hand.sealed(), "x", Trust((keys["maker"],)))


def test_signature_of_an_unknown_key_is_refused_with_both_keys(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    with pytest.raises(UntrustedBundleError) as caught:
        parse_bundle(sign(by_hand.sealed(), "other"), "x", Trust((keys["maker"],)))
    assert keys["other"].key_id in str(caught.value)
    assert keys["maker"].key_id in str(caught.value)


def test_signature_of_another_bundle_is_refused(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    """A whole bundle with its own hashes, under the signature of one that the key did sign."""
    original = parse_bundle(sign(by_hand.sealed()), "x")
    graphs = {"embedder.float32.onnx": by_hand.onnx_graph(seed=9)}
    forged = by_hand.archive(
        [
            ("manifest.json", json.dumps(by_hand.manifest_of(graphs)).encode()),
            *graphs.items(),
            (SIGNATURES, bytes(original.part(SIGNATURES))),
        ]
    )
    parse_bundle(forged, "x")
    with pytest.raises(UntrustedBundleError, match=r"is wrong: .* changed after it was signed"):
        parse_bundle(forged, "x", Trust((keys["maker"],)))


def test_key_id_of_a_trusted_key_on_a_strangers_signature_is_refused(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    content = sign(by_hand.sealed(), "other")
    swapped = content.replace(keys["other"].key_id.encode(), keys["maker"].key_id.encode())
    parts = parse_bundle(content, "x")
    rebuilt = by_hand.archive(
        [
            (name, bytes(parts.part(name)).replace(*_ids(keys)))
            for name in ("manifest.json", "embedder.float32.onnx", SIGNATURES)
        ]
    )
    assert len(swapped) == len(content)
    with pytest.raises(UntrustedBundleError, match="is wrong"):
        parse_bundle(rebuilt, "x", Trust((keys["maker"],)))


def test_every_changed_byte_of_a_signed_bundle_is_refused(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign
) -> None:
    content = sign(by_hand.sealed())
    trust = Trust((keys["maker"],))
    parse_bundle(content, "x", trust)
    passed = []
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x04
        try:
            parse_bundle(bytes(damaged), "x", trust)
        except BundleError:
            continue
        passed.append(position)
    # What is left are the zip's own times and versions, which say nothing about a part.
    assert len(passed) < 4


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"signatures": [{}]}', b"x" * 9000, b'{"signatures": ' + b"[" * 4000]
)
def test_damaged_signatures_are_refused(by_hand: SimpleNamespace, content: bytes) -> None:
    graphs = {"embedder.float32.onnx": by_hand.onnx_graph()}
    manifest = json.dumps(by_hand.manifest_of(graphs)).encode()
    with pytest.raises(BundleError, match=SIGNATURES):
        parse_bundle(
            by_hand.archive([("manifest.json", manifest), *graphs.items(), (SIGNATURES, content)]),
            "x",
        )


def test_an_older_bundle_of_the_same_name_and_key_is_refused(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign, tmp_path: Path
) -> None:
    trust = Trust((keys["maker"], keys["other"]), tmp_path / "state" / "bundles.json")
    paths = {}
    for sequence in (100, 101):
        paths[sequence] = tmp_path / f"{sequence}.limen"
        paths[sequence].write_bytes(sign(by_hand.sealed(sequence=sequence)))
    for sequence in (100, 100, 101, 101):
        open_bundle(paths[sequence], trust)
    with pytest.raises(UntrustedBundleError, match=r"older 'by-hand' \(sequence 100\).*\(101\)"):
        open_bundle(paths[100], trust)
    renamed = tmp_path / "renamed.limen"
    renamed.write_bytes(sign(by_hand.sealed(sequence=5, name="another")))
    open_bundle(renamed, trust)
    # What a trusted key did not sign raises no mark, so nobody can lock the next bundle out.
    stranger = tmp_path / "stranger.limen"
    stranger.write_bytes(by_hand.sealed(sequence=4_000_000_000))
    with pytest.raises(UntrustedBundleError):
        open_bundle(stranger, trust)
    open_bundle(paths[101], trust)


def test_damaged_or_unwritable_memory_opens_nothing(
    by_hand: SimpleNamespace, keys: dict[str, PublicKey], sign: Sign, tmp_path: Path
) -> None:
    path = tmp_path / "a.limen"
    path.write_bytes(sign(by_hand.sealed()))
    memory = tmp_path / "bundles.json"
    memory.write_text('{"highest": {"a": -1}}')
    with pytest.raises(UntrustedBundleError, match="damaged"):
        open_bundle(path, Trust((keys["maker"],), memory))
    (tmp_path / "file").write_text("")
    with pytest.raises(UntrustedBundleError, match=r"cannot be (read|remembered)"):
        open_bundle(path, Trust((keys["maker"],), tmp_path / "file" / "bundles.json"))


def test_board_demands_signatures_as_soon_as_it_has_a_trusted_key(
    by_hand: SimpleNamespace,
    keys: dict[str, PublicKey],
    sign: Sign,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, state = tmp_path / "config", tmp_path / "state"
    for name, value in (("XDG_CONFIG_HOME", config), ("XDG_STATE_HOME", state)):
        monkeypatch.setenv(name, str(value))
    for name in ("LIMEN_TRUSTED_KEYS", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    unsigned, good = tmp_path / "unsigned.limen", tmp_path / "good.limen"
    unsigned.write_bytes(by_hand.sealed())
    good.write_bytes(sign(by_hand.sealed()))
    open_bundle(unsigned)
    folder = config / "limen" / "trusted-keys"
    folder.mkdir(parents=True)
    with pytest.raises(KeyFileError, match="expected 1 to"):
        open_bundle(good)
    (folder / "maker.pub").write_bytes((tmp_path / "maker.key.pub").read_bytes())
    assert open_bundle(good).signer is not None
    assert json.loads((state / "limen" / "bundles.json").read_text())["highest"]
    with pytest.raises(UntrustedBundleError, match="not signed"):
        open_bundle(unsigned)
    open_bundle()  # the shipped one is believed with the package
    (folder / "maker.pub").write_text("damaged")
    with pytest.raises(KeyFileError, match="no public key"):
        open_bundle(good)


def test_folder_of_trusted_keys_that_is_named_but_missing_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="no bundle is opened"):
        board_trust({"LIMEN_TRUSTED_KEYS": str(tmp_path / "nowhere"), "HOME": str(tmp_path)})
    assert board_trust({"HOME": str(tmp_path)}) == NO_TRUST or os.path.lexists("/etc/limen")


def test_state_directory_of_a_service_holds_the_memory(
    tmp_path: Path, keys: dict[str, PublicKey]
) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "a.pub").write_bytes((tmp_path / "maker.key.pub").read_bytes())
    trust = board_trust({"LIMEN_TRUSTED_KEYS": str(folder), "STATE_DIRECTORY": str(tmp_path)})
    assert trust.memory == tmp_path / "bundles.json"
    assert [key.raw for key in trust.keys] == [keys["maker"].raw]


def test_key_files_are_private_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    public, key = generate_key_pair(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_public_key(public).key_id == key.key_id
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_key_pair(path)
    public.unlink()
    (tmp_path / "nowhere").symlink_to(tmp_path / "target")
    with pytest.raises(KeyFileError, match="never overwritten"):
        generate_key_pair(tmp_path / "nowhere")
    assert path.read_bytes() == before
    assert b"PRIVATE" not in b"".join(p.read_bytes() for p in tmp_path.glob("*.pub"))


def test_passphrase_locks_a_key(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    generate_key_pair(path, b"correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    load_private_key(path, b"correct horse")
    with pytest.raises(KeyFileError, match="needs its passphrase"):
        load_private_key(path)
    with pytest.raises(KeyFileError, match="passphrase is wrong"):
        load_private_key(path, b"battery staple")


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

    key = generate_private_key(SECP256R1())
    private, public = tmp_path / "p256.key", tmp_path / "p256.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_private_key(private)
    with pytest.raises(KeyFileError, match="Ed25519"):
        load_public_key(public)
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_public_key(tmp_path / "none.pub")
    with pytest.raises(KeyFileError, match="no public key"):
        load_public_key(private)


def _ids(keys: dict[str, PublicKey]) -> tuple[bytes, bytes]:
    return keys["other"].key_id.encode(), keys["maker"].key_id.encode()
