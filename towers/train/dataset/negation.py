"""Words that turn a text's meaning into its opposite. Nothing that changes or compares texts may overlook them."""

from __future__ import annotations

import re
from collections import Counter

_ENGLISH = (
    "no|not|never|none|nobody|nothing|nowhere|neither|nor|without|cannot|hardly|barely|scarcely|rarely|seldom|lacks?|"
    "lacking|fails?|failed|"
    # contractions, with any apostrophe or none, in one piece or cut as some tokenizers do ("does n't")
    r"(?:ai|are|ca|could|did|do|does|had|has|have|is|might|must|need|should|was|were|wo|would)n[’']?t|n[’']t"
)
# 非 is also part of 非常, 别 of 特别: to spare such a word costs nothing, to lose a negation turns the label.
_CHINESE = "[不没沒無无未非别別莫勿否毋甭难難缺]"
_HAN = "\u3400-\u9fff"
# Latin words may touch Chinese characters, which count as letters: there the boundary is the change of script.
_NEGATION = re.compile(
    rf"(?:(?<![^\W\d_])|(?<=[{_HAN}]))(?:{_ENGLISH})(?:(?![^\W\d_])|(?=[{_HAN}]))|{_CHINESE}", re.IGNORECASE
)


def negation_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each negation of an English or Chinese text, in order."""
    return [match.span() for match in _NEGATION.finditer(text)]


def negations(text: str) -> Counter[str]:
    """Return how often each negation occurs in a text, in lower case, apostrophes left out."""
    found = (text[start:end].lower() for start, end in negation_spans(text))
    return Counter(word.replace("’", "").replace("'", "") for word in found)
