"""Which process this is, and whether another one of this machine still lives: numbers alone are used again."""

import os
import platform

import psutil


def this_process() -> str:
    """`HOST_NUMBER_START`, fit for a file name."""
    return f"{platform.node()}_{os.getpid()}_{psutil.Process().create_time():.2f}"


def has_ended(process: str) -> bool:
    """Whether a process that called itself so was one of this machine and is gone."""
    host, _, rest = process.partition(f"{platform.node()}_")
    number, _, began = rest.partition("_")
    if host or not number.isdigit() or not began:
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" != began
    except psutil.NoSuchProcess:
        return True
