"""Kept memory: a large block that was freed comes back without new page faults."""

import platform
import resource

import pytest
import torch
from clinical_modernbert.encoder import keep_freed_memory

BLOCK_BYTES = 48 << 20  # above 32 MiB glibc by itself maps a block anew at every allocation


def _faults_of_a_block() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(BLOCK_BYTES, dtype=torch.uint8).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt's thresholds are glibc's")
def test_a_freed_block_is_used_again() -> None:
    assert keep_freed_memory()
    _faults_of_a_block()
    assert _faults_of_a_block() < BLOCK_BYTES / resource.getpagesize() / 10
