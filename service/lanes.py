"""Two lanes: single texts need not wait until somebody's long list is done.

Every request begins in the quick lane. One that turns out to tokenise or encode many texts, or very long ones, is
begun again in the long lane, whose threads are its own: lists wait for lists, and single texts for single texts. Up to
there a request has only been parsed and looked up, which costs a few milliseconds a thousand texts.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextvars import ContextVar

# Texts: as many as clients of text-embeddings-inference send at once by default.
QUICK = 32
# Characters, of all texts together: QUICK texts as long as the shipped bundle reads, 256 tokens. They take 0.16 s on
# 2 cores; QUICK texts of 10,000 Chinese characters took 0.47 s to encode, and one of them 44 ms to answer as tokens.
QUICK_CHARACTERS = 32_000
# How much less than others the long lane gets of a processor that both want; 10 is a tenth. Beside two lists of 2,048
# titles on 2 cores, half of all searches took less than 15 ms without it and 6.5 ms with it; alone they took 6 ms.
NICENESS = 10

_IN_QUICK_LANE: ContextVar[bool] = ContextVar("in_quick_lane", default=False)


class LongError(Exception):
    """The work belongs into the long lane. Only Work sees this."""


def enter_quick_lane() -> None:
    """What runs in this context from now on may be sent to the long lane."""
    _IN_QUICK_LANE.set(True)


def leave_quick_lane() -> None:
    """What runs in this context from now on may be as long as it likes."""
    _IN_QUICK_LANE.set(False)


def need_long_lane(texts: Sequence[str]) -> None:
    """To be called before texts are tokenised or encoded: many or very long ones are not, in the quick lane.

    Raises:
        LongError: The work is to be begun again in the long lane.
    """
    if _IN_QUICK_LANE.get() and (len(texts) > QUICK or sum(map(len, texts)) > QUICK_CHARACTERS):
        raise LongError


def be_nice() -> None:
    """Let threads of other lanes go first on this thread's processor, and on those of threads that it starts."""
    if sys.platform == "linux":  # where a thread has a niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
