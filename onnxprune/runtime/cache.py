"""Native sessions by what is in them: equal models, however they came about, share one.

Making a session costs more than many runs of it. What is kept is bounded, least recently used first out: by number,
by bytes of weights (a session takes about twice that: a copy and its rearranged form), and by nothing else that could
grow: a session that was fed much at once is forgotten, because onnxruntime never gives back the memory that the
largest call took, and because such a call takes longer than making the session. No array and no file of a model is
kept alive.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["FED_MOST", "LARGEST", "SessionCache", "clear_sessions", "sessions"]

MOST = 8  # sessions; each may hold activations of inputs of up to 1 MB beside its weights
BYTES = 256 << 20  # of weights in all of them
LARGEST = 128 << 20  # bytes of weights of one: two copies of a larger model would be felt
FED_MOST = 1 << 20  # bytes of inputs in one call


@dataclass
class SessionCache:
    """The least recently used go first; safe in threads, and empty in a forked process."""

    most: int = MOST
    limit: int = BYTES
    _entries: OrderedDict[Hashable, tuple[ort.InferenceSession, int]] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _abandoned: list[object] = field(default_factory=list)

    def get(self, key: Hashable) -> ort.InferenceSession | None:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Hashable, made: ort.InferenceSession, nbytes: int) -> None:
        """Keep a session of ``nbytes`` of weights, and let go of what is too much then."""
        gone = []  # ends outside the lock: a session waits for its threads
        with self._lock:
            self._entries[key] = (made, nbytes)
            self._entries.move_to_end(key)
            while len(self._entries) > self.most or sum(size for _, size in self._entries.values()) > self.limit:
                gone.append(self._entries.popitem(last=False))

    def forget(self, made: ort.InferenceSession) -> None:
        """Keep this one no longer; whoever has it may go on using it."""
        with self._lock:
            for key in [key for key, (kept, _) in self._entries.items() if kept is made]:
                del self._entries[key]

    def clear(self) -> None:
        gone = []
        with self._lock:
            gone.append(self._entries)
            self._entries = OrderedDict()

    def abandon(self) -> None:
        """In a forked process: the threads of its sessions are not there, so that none can be used, nor even ended."""
        self._abandoned.append(self._entries)
        self._entries, self._lock = OrderedDict(), threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)


sessions = SessionCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=sessions.abandon)


def clear_sessions() -> None:
    """Let go of all sessions that are kept for equal models, and of the memory that they take."""
    sessions.clear()
