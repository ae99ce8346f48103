"""The Merkle tree of RFC 6962 and RFC 9162: leaves, frontier, roots, proofs; and the linear hash chain."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_LINK: Final = b"\x02"


def leaf_hash(body: bytes) -> bytes:
    """Return the 32-byte leaf hash of a record's stored bytes."""
    return sha256(_LEAF + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of an inner node over its two children."""
    return sha256(_NODE + left + right).digest()


def chain_start(origin: str) -> bytes:
    """Return the chain value before the first record of the log called ``origin``."""
    return sha256(_LINK + origin.encode()).digest()


def chain_next(previous: bytes, leaf: bytes) -> bytes:
    """Return the chain value after the record whose leaf hash is ``leaf``."""
    return sha256(_LINK + previous + leaf).digest()


class Frontier:
    """The right edge of a growing tree: at most 64 hashes, from which leaves are added and roots made."""

    __slots__ = ("_hashes", "_size")

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        """Continue a tree of ``size`` leaves whose complete subtrees, largest first, hash to ``hashes``.

        Raises ValueError unless there is exactly one 32-byte hash for each binary one in ``size``.
        """
        if size < 0:
            raise ValueError(f"size: {size} is negative")
        if len(hashes) != size.bit_count() or any(len(item) != HASH_BYTES for item in hashes):
            raise ValueError(f"hashes: a tree of {size} leaves needs {size.bit_count()} hashes of 32 bytes")
        self._size = size
        self._hashes = list(hashes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read back what ``to_bytes`` wrote for a tree of ``size`` leaves; ValueError if it did not."""
        return cls(size, [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)])

    def to_bytes(self) -> bytes:
        """Return the hashes joined, largest subtree first; with ``size`` this is the whole state."""
        return b"".join(self._hashes)

    @property
    def size(self) -> int:
        """The number of leaves so far."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of the complete subtrees, largest first."""
        return tuple(self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash (32 bytes)."""
        hashes, size = self._hashes, self._size
        self._size = size + 1
        while size & 1:
            leaf = sha256(_NODE + hashes.pop() + leaf).digest()
            size >>= 1
        hashes.append(leaf)

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for leaf in leaves:
            self.append(leaf)

    def root(self) -> bytes:
        """Return the root hash of the tree as it is now."""
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root

    def copy(self) -> Frontier:
        """Return an independent frontier with the same state."""
        return Frontier(self._size, self._hashes)


def root_hash(leaves: Iterable[bytes]) -> bytes:
    """Return the root of the tree over ``leaves`` (leaf hashes, in order)."""
    frontier = Frontier()
    frontier.extend(leaves)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the hashes that lead from leaf ``index`` to the root over ``leaves``, lowest first.

    Raises ValueError if there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError(f"index: {index} is not a leaf of a tree of {len(leaves)}")
    return [root_hash(leaves[low:high]) for low, high in _siblings(index, len(leaves))]


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """Return the hashes that show the tree over ``leaves`` to contain its own first ``old_size`` as prefix.

    Raises ValueError if ``old_size`` is negative or larger than the tree.
    """
    size = len(leaves)
    if not 0 <= old_size <= size:
        raise ValueError(f"old_size: {old_size} is not within a tree of {size}")
    if old_size in {0, size}:
        return []
    # The largest complete subtree that ends at old_size: everything else hangs beside the way up from it.
    width = old_size & -old_size
    start = old_size - width
    above = [(low, high) for low, high in _siblings(old_size - 1, size) if not start <= low < high <= old_size]
    known = [] if start == 0 else [(start, old_size)]
    return [root_hash(leaves[low:high]) for low, high in known + above]


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether ``proof`` shows ``leaf`` to be number ``index`` of ``size`` leaves under ``root``."""
    if not 0 <= index < size or not _are_hashes([leaf, root, *proof]):
        return False
    node, last = index, size - 1
    value = leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            value = node_hash(sibling, value)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            value = node_hash(value, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and value == root


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether ``proof`` shows the tree under ``new_root`` to be the one under ``old_root``, grown.

    A log of no records is a prefix of any log; its root must be the empty root and its proof empty.
    """
    if not 0 <= old_size <= new_size or not _are_hashes([old_root, new_root, *proof]):
        return False
    if old_size == 0:
        return not proof and old_root == EMPTY_ROOT
    if old_size == new_size:
        return not proof and old_root == new_root
    # An old tree that is one complete subtree is itself the first hash, which is therefore left out.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        return False
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            new = node_hash(new, sibling)
        node >>= 1
        last >>= 1
    return last == 0 and old == old_root and new == new_root


def _siblings(index: int, size: int) -> list[tuple[int, int]]:
    """Return the ranges of leaves under each sibling on the way up from leaf ``index``, lowest first."""
    low, high = 0, size
    ranges: list[tuple[int, int]] = []
    while high - low > 1:
        middle = low + (1 << (high - low - 1).bit_length() - 1)
        if index < middle:
            ranges.append((middle, high))
            high = middle
        else:
            ranges.append((low, middle))
            low = middle
    return ranges[::-1]


def _are_hashes(values: Sequence[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)
