"""Errors that people make when they type English: neighbouring keys, letters left out or doubled, homophones."""

from __future__ import annotations

import random
import re
from functools import cache

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_OFFSETS = (0.0, 0.25, 0.75)  # how far each row of a QWERTY keyboard is moved to the right, in keys
_SHORTEST = 4  # letters of a word that gets a typing error: shorter ones too often become another word

_HOMOPHONES = """
their there they're|your you're|its it's|to too|than then|hear here|wear where ware|buy by bye|brake break|
weather whether|peace piece|plain plane|sale sail|week weak|whole hole|our hour|right write|
see sea|son sun|tail tale|waist waste|wait weight|way weigh|wood would|which witch|threw through|some sum|role roll|
quiet quite|loose lose|
accept except|affect effect|advice advise|past passed|principal principle|stationary stationery|
complement compliment|desert dessert|flour flower|heal heel|meat meet|pair pear|pale pail|rain reign|road rode|
steal steel|stair stare|cent sent scent|cell sell|die dye|dear deer|fair fare|great grate|hair hare|mail male|
made maid|main mane|night knight|new knew|blue blew|be bee|aloud allowed|board bored|course coarse|cord chord
"""
_MISSPELLINGS = """
absence absense|accommodate accomodate|achieve acheive|across accross|address adress|already allready|always allways|
amateur amatuer|apparent apparant|argument arguement|basically basicly|beautiful beautifull|because becuase|
beginning begining|believe beleive|business buisness|calendar calender|camera camra|cancelled canceled|
category catagory|charger chager|chocolate choclate|color colour|committed commited|completely completly|
connection conection|customer custumer|definitely definately|delivery delivary|different diffrent|disappear dissapear|
disappointed dissapointed|embarrass embarass|environment enviroment|especially expecially|excellent excellant|
experience experiance|familiar familar|favourite favorite|february febuary|finally finaly|foreign foriegn|friend freind|
government goverment|guarantee garantee|happened happend|headphones headfones|immediately immediatly|
independent independant|interesting intresting|jewellery jewelry|knowledge knowlege|laptop labtop|library libary|
maintenance maintainance|millennium millenium|necessary neccessary|noticeable noticable|occasion ocassion|
occurred occured|original orignal|perfume parfume|piece peice|please plese|possible posible|privilege priviledge|
probably probly|professional proffesional|really realy|receipt reciept|receive recieve|recommend reccomend|
refrigerator refridgerator|restaurant restaraunt|separate seperate|similar similiar|sincerely sincerly|
smartphone smartfone|successful succesful|surprise suprise|temperature temperture|terrible terible|through thru|
together togather|tomorrow tommorow|truly truely|unfortunately unfortunatly|until untill|usually usualy|
vacuum vaccum|wednesday wensday|weird wierd|wireless wirless|writing writting
"""
_LETTERS = re.compile("[A-Za-z]+")


@cache
def keyboard_neighbours() -> dict[str, str]:
    """Return letter -> letters whose keys touch its key."""
    place = {
        letter: (column + offset, row)
        for row, (letters, offset) in enumerate(zip(_ROWS, _OFFSETS, strict=True))
        for column, letter in enumerate(letters)
    }
    return {
        a: "".join(b for b, (x, y) in place.items() if b != a and abs(x - ax) <= 1 and abs(y - ay) <= 1)
        for a, (ax, ay) in place.items()
    }


@cache
def confused_words() -> dict[str, tuple[str, ...]]:
    """Return word -> homophones and common misspellings of it."""
    confused: dict[str, list[str]] = {}
    for group in _entries(_HOMOPHONES):
        for word in group:
            confused.setdefault(word, []).extend(other for other in group if other != word)
    for right, *wrong in _entries(_MISSPELLINGS):
        confused.setdefault(right, []).extend(wrong)
    return {word: tuple(dict.fromkeys(others)) for word, others in confused.items()}


def mistyped(word: str, rng: random.Random) -> str | None:
    """Return a word with one typing error behind its first letter, or None if it is too short or no plain word."""
    if len(word) < _SHORTEST or not _LETTERS.fullmatch(word):
        return None
    at = rng.randrange(1, len(word))
    kind = rng.choice(("neighbour", "neighbour", "omit", "double", "exchange"))
    if kind == "omit":
        return word[:at] + word[at + 1 :]
    if kind == "double":
        return word[:at] + word[at] + word[at:]
    if kind == "exchange" and at + 1 < len(word) and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    hit = rng.choice(keyboard_neighbours()[word[at].lower()])
    return word[:at] + (hit.upper() if word[at].isupper() else hit) + word[at + 1 :]


def misheard(word: str, rng: random.Random) -> str | None:
    """Return a homophone or common misspelling of a word, or one made by the commonest rules; None if there is none."""
    others = confused_words().get(word.lower())
    if others:
        return _cased(rng.choice(others), word)
    if len(word) < _SHORTEST or not _LETTERS.fullmatch(word):
        return None
    return _by_rule(word, rng)


def _by_rule(word: str, rng: random.Random) -> str | None:
    """I before e, one letter for two, -able and -ible, -ance and -ence."""
    found = []
    for pattern, put in (
        ("ie", "ei"),
        ("ei", "ie"),
        ("(?<=...)able$", "ible"),
        ("(?<=...)ible$", "able"),
        ("ance$", "ence"),
        ("ence$", "ance"),
        (r"(?<=.)([b-df-hj-np-tv-z])\1", r"\1"),
    ):
        changed = re.sub(pattern, put, word, count=1)
        if changed != word:
            found.append(changed)
    return rng.choice(found) if found else None


def _cased(word: str, like: str) -> str:
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


def _entries(text: str) -> list[list[str]]:
    return [entry.split() for entry in text.replace("\n", "").split("|") if entry.strip()]
