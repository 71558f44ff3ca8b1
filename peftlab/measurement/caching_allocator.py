"""PyTorch's allocator of CUDA memory, by its rules and without memory: what it counts as allocated.

It hands out whole blocks. One that is free and large enough is cut only where more than a mebibyte would be left, so
tensors can take up to a mebibyte more than they need. The rules are those of ``c10/cuda/CUDACachingAllocator.cpp``
with its default settings.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

MEBIBYTE = 1 << 20
SMALLEST = 512
SMALL = MEBIBYTE
"""Up to so many bytes a tensor comes from the pool of small ones."""
SEGMENT_OF_SMALL, SEGMENT_OF_MIDDLE, MIDDLE = 2 * MEBIBYTE, 20 * MEBIBYTE, 10 * MEBIBYTE
"""What is asked of the driver: for small tensors, for those up to ten mebibytes; larger ones have their own."""


@dataclass
class Block:
    """A part of a segment.

    Args:
        size: In bytes.
        small: Which pool it belongs to.
        before: The part in front of it in its segment.
        behind: The part behind it.
        free: Whether nobody uses it.
        place: Tells blocks of one size apart; lower is older.
    """

    size: int
    small: bool
    place: int
    before: Block | None = None
    behind: Block | None = None
    free: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """The smallest comes first, and the lowest of those."""
        return self.size, self.place


class CachingAllocator:
    """Counts what PyTorch's allocator would.

    Attributes:
        allocated_bytes: Of all blocks in use, as ``torch.cuda.memory_allocated`` has it.
    """

    def __init__(self) -> None:
        self.allocated_bytes = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        self._blocks: dict[int, Block] = {}
        self._end = 0

    def allocate(self, size: int) -> Block:
        """A block for so many bytes."""
        size = -(-max(size, 1) // SMALLEST) * SMALLEST
        small = size <= SMALL
        keys = self._free[small]
        place = bisect_left(keys, (size, 0))
        block = self._blocks[keys.pop(place)[1]] if place < len(keys) else self._segment(size, small=small)
        block.free = False
        left = block.size - size
        if left >= SMALLEST if small else left > SMALL:
            rest = Block(left, small, block.place + size, block, block.behind, free=True)
            if block.behind is not None:
                block.behind.before = rest
            block.behind, block.size = rest, size
            self._keep(rest)
        self.allocated_bytes += block.size
        return block

    def free(self, block: Block) -> None:
        """Give a block back; it becomes one with free neighbours."""
        self.allocated_bytes -= block.size
        block.free = True
        if block.before is not None and block.before.free:
            block = self._merge(block.before, block)
        if block.behind is not None and block.behind.free:
            self._take(block.behind)
            block = self._joined(block, block.behind)
        self._keep(block)

    def _merge(self, before: Block, block: Block) -> Block:
        self._take(before)
        return self._joined(before, block)

    def _joined(self, block: Block, behind: Block) -> Block:
        block.size += behind.size
        block.behind = behind.behind
        if behind.behind is not None:
            behind.behind.before = block
        self._blocks.pop(behind.place, None)
        return block

    def _keep(self, block: Block) -> None:
        self._blocks[block.place] = block
        insort(self._free[block.small], block.key)

    def _take(self, block: Block) -> None:
        keys = self._free[block.small]
        del keys[bisect_left(keys, block.key)]

    def _segment(self, size: int, *, small: bool) -> Block:
        if small:
            whole = SEGMENT_OF_SMALL
        else:
            whole = SEGMENT_OF_MIDDLE if size < MIDDLE else -(-size // SEGMENT_OF_SMALL) * SEGMENT_OF_SMALL
        block = Block(whole, small, self._end)
        self._end += whole
        return block
