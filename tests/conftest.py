from __future__ import annotations

from hypothesis import settings

# How long an example takes depends on what else the machine does; everything else stays as the environment has it.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
