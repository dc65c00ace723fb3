"""What each layout gives, and what is refused or left out while listing."""

import os
import struct

import numpy as np
import pytest

from limen.errors import PictureError
from limen.images import encode_jpeg
from limen.train.prepare.recordio import MAGIC
from limen.train.prepare.sources import PrepareError, open_source, printable

JPEG = encode_jpeg(np.full((32, 32, 3), 90, np.uint8))


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(JPEG)
    return folder


def all_of(source):
    return source.pictures(0, len(source))


def test_folders_give_identities_and_leave_out_what_is_no_picture_of_one(tmp_path) -> None:
    folder = put(
        tmp_path / "faces",
        "ann/2.jpg", "ann/1.PNG", "bob/1.webp", "bob/more/3.jpg", "loose.jpg", ".git/x.jpg",
        "ann/._1.jpg",
    )  # fmt: skip
    (folder / "ann" / "notes.txt").write_text("…")
    source = open_source(folder)
    assert [(p.name, p.identity) for p in all_of(source)] == [
        ("ann/1.PNG", "ann"), ("ann/2.jpg", "ann"), ("bob/1.webp", "bob"),
    ]  # fmt: skip
    assert {(one.name, one.reason) for one in source.left_out} == {
        ("bob/more", "nested-folder"), ("loose.jpg", "no-identity"),
    }  # fmt: skip
    assert source.other_files == 1
    assert source.labelled
    assert source.reader.read(all_of(source)[0]) == JPEG


def test_links_out_of_the_folder_are_not_followed(tmp_path) -> None:
    put(tmp_path / "elsewhere", "secret.jpg")
    folder = put(tmp_path / "faces", "ann/1.jpg", "bob/1.jpg")
    (folder / "ann" / "out.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (folder / "eve").symlink_to(tmp_path / "elsewhere")
    (folder / "ann" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "ann" / "inside.jpg").symlink_to(folder / "bob" / "1.jpg")
    for layout in ("folders", "flat"):
        source = open_source(folder, layout)
        assert [p.name for p in all_of(source)] == ["ann/1.jpg", "ann/inside.jpg", "bob/1.jpg"]
        refused = {one.name for one in source.left_out if one.reason == "link-outside"}
        assert refused == {"ann/out.jpg", "ann/loop.jpg", "eve"}


def test_what_becomes_no_file_after_listing_is_an_error_of_that_picture(tmp_path) -> None:
    folder = put(tmp_path / "faces", "ann/1.jpg", "ann/2.jpg", "ann/3.jpg", "ann/4.jpg")
    put(tmp_path / "elsewhere", "secret.jpg")
    source = open_source(folder)
    (folder / "ann" / "3.jpg").unlink()
    (folder / "ann" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "secret.jpg")
    (folder / "ann" / "1.jpg").unlink()
    (folder / "ann" / "2.jpg").unlink()
    os.mkfifo(folder / "ann" / "2.jpg")
    for picture in all_of(source)[:3]:
        with pytest.raises(PictureError):  # a fifo must not block
            source.reader.read(picture)
    assert source.reader.read(all_of(source)[3]) == JPEG


def test_names_of_all_kinds_stay_apart_and_printable(tmp_path) -> None:
    names = ["a\nb", "a\\nb", "a\\x0ab", "\udcff", "..", ".", "Zoë", "=1"]
    shown = [printable(name) for name in names]
    assert len(set(shown)) == len(names)
    assert all(text.isprintable() and text not in {".", ".."} for text in shown)
    folder = put(tmp_path / "faces", "a\nb/1.jpg", "Zoë/1.jpg")
    (folder / os.fsdecode(b"\xff")).mkdir()
    (folder / os.fsdecode(b"\xff") / "1.jpg").write_bytes(JPEG)
    source = open_source(folder)
    assert len({p.identity for p in all_of(source)}) == 3
    assert all(source.reader.read(p) == JPEG for p in all_of(source))


def test_pictures_alone_are_of_nobody_known(tmp_path) -> None:
    folder = put(tmp_path / "flat", "b.jpg", "a.jpg")
    source = open_source(folder)
    assert (source.layout, source.labelled) == ("flat", False)
    assert [(p.name, p.identity) for p in all_of(source)] == [("a.jpg", ""), ("b.jpg", "")]
    put(folder, "2019/may/c.jpg")
    deep = open_source(folder, unlabelled=True)
    assert [p.name for p in all_of(deep)] == ["a.jpg", "b.jpg", "2019/may/c.jpg"]


@pytest.mark.parametrize(
    ("names", "layout", "said"),
    [
        ((), "auto", "found none ending in"),
        (("readme.txt",), "flat", "found none ending in"),
        (("a/b/1.jpg",), "auto", "name the folder that holds the identities"),
        (("1.jpg",), "folders", "give each identity a folder of its own"),
        (("1.jpg",), "celeba", "expected identity_CelebA.txt"),
        (("1.jpg",), "recordio", "found no .rec file"),
        (("1.jpg",), "voc", "unknown layout 'voc'"),
    ],
)
def test_a_folder_of_no_layout_is_refused_with_what_was_found(tmp_path, names, layout, said):
    with pytest.raises(PrepareError, match=said):
        open_source(put(tmp_path, *names), layout)


def celeba(folder, identities, partition=None):
    put(folder, *(f"img_align_celeba/{n:06d}.jpg" for n in (1, 2, 3, 4)))
    (folder / "identity_CelebA.txt").write_text(identities)
    if partition is not None:
        (folder / "list_eval_partition.txt").write_text(partition)
    return folder


def test_celeba_has_identities_and_its_own_partition(tmp_path) -> None:
    folder = celeba(
        tmp_path,
        "000001.jpg 7\n000002.jpg 7\n000003.jpg 12\n000009.jpg 7\n",
        "000001.jpg 0\n000002.jpg 0\n000003.jpg 2\n",
    )
    source = open_source(folder)
    assert [(p.name, p.identity, p.part) for p in all_of(source)] == [
        ("000001.jpg", "celeba-00007", "fit"),
        ("000002.jpg", "celeba-00007", "fit"),
        ("000003.jpg", "celeba-00012", "report"),
    ]
    assert {(one.name, one.reason) for one in source.left_out} == {
        ("000009.jpg", "missing"), ("000004.jpg", "no-identity"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identities", "partition", "said"),
    [
        ("000001.jpg 7\n000001.jpg 8\n", None, "line 2: '000001.jpg' was there before"),
        ("000001.jpg seven\n", None, "line 1: expected a picture's file name and an identity"),
        ("../../etc/passwd 7\n", None, "line 1"),
        ("000001.jpg 7\n", "000001.jpg 0\n000001.jpg 1\n", "line 2: '000001.jpg' was there before"),
        ("000001.jpg 7\n", "000001.jpg 3\n", "expected a picture's file name and 0, 1 or 2"),
        ("900001.jpg 7\n", None, "put the pictures that identity_CelebA.txt names beside it"),
    ],
)
def test_celeba_lists_that_contradict_are_refused_by_line(
    tmp_path, identities, partition, said
) -> None:
    with pytest.raises(PrepareError, match=said):
        open_source(celeba(tmp_path, identities, partition))


def test_recordio_gives_every_picture_its_identity(tmp_path, insightface) -> None:
    # Bytes that look like a record's beginning make mxnet split a record: they must come back.
    split = JPEG + bytes(-(24 + len(JPEG)) % 4) + struct.pack("<I", MAGIC) + b"tail!"
    source = open_source(insightface({4: [JPEG, split], 9: [split]}).write(tmp_path / "set"))
    assert (source.layout, source.aligned, len(source)) == ("recordio", True, 3)
    pictures = all_of(source)
    assert [p.identity for p in pictures] == ["id-0000004", "id-0000004", "id-0000009"]
    assert [source.reader.read(p) for p in pictures] == [JPEG, split, split]


def test_recordio_without_insightfaces_header_asks_each_record(tmp_path, record_file) -> None:
    file = record_file
    for key, label in ((3, 1.0), (5, 0.0), (8, 1.0)):
        file.add(key, [label], JPEG)
    file.add(9, [float("nan")], JPEG)
    source = open_source(file.write(tmp_path / "set"))
    assert [p.identity for p in all_of(source)] == ["id-0000001", "id-0000000", "id-0000001"]
    assert [one.reason for one in source.left_out] == ["wrong-label"]


def test_a_record_that_contradicts_its_range_is_an_error_of_that_picture(
    tmp_path, record_file
) -> None:
    file = record_file
    file.add(0, [3, 4])
    file.add(1, [6.0], JPEG)
    file.add(2, [7.0], JPEG)
    file.add(3, [1, 3])
    source = open_source(file.write(tmp_path / "set"))
    assert source.reader.read(all_of(source)[0]) == JPEG
    with pytest.raises(PictureError, match="its record says id-0000007"):
        source.reader.read(all_of(source)[1])


@pytest.mark.parametrize(
    ("index", "said"),
    [
        ("", "found none"),
        ("0\t0\n1\tx\n", "line 2: expected a key and a byte offset"),
        ("0\t0\n1\t99999999\n", "line 2: record 1 at byte 99999999 is not in the"),
        ("0\t0\n0\t64\n", "a key is there twice"),
        ("-1\t0\n", "line 1"),
    ],
)
def test_a_damaged_index_is_refused_by_line(tmp_path, insightface, index, said) -> None:
    folder = insightface({1: [JPEG], 2: [JPEG]}).write(tmp_path / "set")
    (folder / "train.idx").write_text(index)
    with pytest.raises(PrepareError, match=said):
        open_source(folder)


def test_a_record_file_that_is_cut_short_keeps_what_is_whole(tmp_path, record_file) -> None:
    file = record_file
    for key in range(1, 5):
        file.add(key, [float(key % 2)], JPEG)
    folder = file.write(tmp_path / "set")
    content = (folder / "train.rec").read_bytes()
    (folder / "train.rec").write_bytes(content[: file.offsets[4] + 12])
    source = open_source(folder)
    assert len(source) == 3
    assert "cut short" in source.left_out[0].detail
    (folder / "train.rec").write_bytes(b"\0" * len(content))
    with pytest.raises(PrepareError, match="no record begins"):
        open_source(folder)
