"""Learning-rate schedules as pure functions of where the run stands: nothing to save, nothing to restore."""

import math
from typing import Literal

ScheduleName = Literal["constant", "cosine", "onecycle"]


def constant(progress: float, warmup: float) -> float:
    return rise(progress, warmup)


def cosine(progress: float, warmup: float) -> float:
    """Down to 0 on half a cosine (Loshchilov and Hutter, 2017), after the rise."""
    if progress < warmup:
        return rise(progress, warmup)
    return (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2


def onecycle(progress: float, warmup: float) -> float:
    """Up and down in two straight lines (Smith and Topin, 2018); the momentum stays as it is."""
    if progress < warmup:
        return rise(progress, warmup)
    return (1 - progress) / (1 - warmup)


def rise(progress: float, warmup: float) -> float:
    """A straight line from 1/25 to 1."""
    return 1.0 if progress >= warmup else 0.04 + 0.96 * progress / warmup


SCHEDULES = {"constant": constant, "cosine": cosine, "onecycle": onecycle}
