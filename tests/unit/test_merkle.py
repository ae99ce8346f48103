"""The tree and the chain: reference vectors, and proofs that hold for what is true and for nothing else."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ordernotify.core.merkle import (
    EMPTY_ROOT,
    Frontier,
    chain_next,
    chain_start,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS = json.loads((Path(__file__).parents[1] / "fixtures" / "ledger_vectors.json").read_text("utf-8"))
RECORDS = [vector["jcs"].encode() for vector in VECTORS["records"]]
LEAVES = [leaf_hash(body) for body in RECORDS]

# The eight entries over which Certificate Transparency implementations publish their reference tree.
REFERENCE = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
REFERENCE_ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"

LARGEST = 64
MANY = [leaf_hash(b"%d" % number) for number in range(LARGEST)]
ROOTS = [root_hash(MANY[:size]) for size in range(LARGEST + 1)]

sizes = st.integers(1, LARGEST)


def unhex(values):
    return [bytes.fromhex(value) for value in values]


def mutations(proof):
    """Yield every proof that differs from ``proof`` by one flipped bit, one hash less, more or swapped."""
    for at, item in enumerate(proof):
        flipped = bytes([item[0] ^ 1]) + item[1:]
        yield [*proof[:at], flipped, *proof[at + 1 :]]
        yield [*proof[:at], item[:-1], *proof[at + 1 :]]
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[:at], item, *proof[at:]]
    yield [*proof, MANY[0]]
    yield [*proof, EMPTY_ROOT]
    if len(proof) > 1:
        yield proof[::-1]
        yield [proof[1], proof[0], *proof[2:]]


def recursive_root(leaves):
    """RFC 6962 section 2.1, word for word: an oracle that shares nothing with the frontier."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


def test_the_reference_tree_of_eight_leaves_has_its_published_root():
    assert root_hash(leaf_hash(bytes.fromhex(entry)) for entry in REFERENCE).hex() == REFERENCE_ROOT


def test_each_published_leaf_root_and_chain_value_is_reproduced():
    chain = chain_start(VECTORS["origin"])
    frontier = Frontier()
    for number, (leaf, vector) in enumerate(zip(LEAVES, VECTORS["records"], strict=True)):
        assert chain.hex() == VECTORS["chain"][number]
        assert frontier.root().hex() == VECTORS["roots"][str(number)]
        assert leaf.hex() == vector["leaf"]
        chain = chain_next(chain, leaf)
        frontier.append(leaf)
    assert chain.hex() == VECTORS["chain"][5]
    assert frontier.root().hex() == VECTORS["roots"]["5"]


def test_each_published_inner_node_is_reproduced():
    assert root_hash(LEAVES[0:2]).hex() == VECTORS["nodes"]["[0,2)"]
    assert root_hash(LEAVES[2:4]).hex() == VECTORS["nodes"]["[2,4)"]
    assert root_hash(LEAVES[0:4]).hex() == VECTORS["nodes"]["[0,4)"]


@pytest.mark.parametrize(("index", "proof"), VECTORS["inclusion_5"].items())
def test_each_published_inclusion_proof_is_made_and_verifies(index, proof):
    made = inclusion_proof(LEAVES, int(index))
    assert made == unhex(proof)
    root = bytes.fromhex(VECTORS["roots"]["5"])
    assert verify_inclusion(leaf=LEAVES[int(index)], index=int(index), size=5, proof=made, root=root)


@pytest.mark.parametrize(("between", "proof"), VECTORS["consistency"].items())
def test_each_published_consistency_proof_is_made_and_verifies(between, proof):
    old, new = map(int, between.split("->"))
    made = consistency_proof(LEAVES[:new], old)
    assert made == unhex(proof)
    old_root, new_root = unhex([VECTORS["roots"][str(old)], VECTORS["roots"][str(new)]])
    assert verify_consistency(old_size=old, old_root=old_root, new_size=new, new_root=new_root, proof=made)


def test_the_frontier_gives_the_root_of_the_definition_at_every_size():
    frontier = Frontier()
    for size in range(LARGEST + 1):
        assert frontier.size == size
        assert frontier.root() == ROOTS[size] == recursive_root(MANY[:size])
        if size < LARGEST:
            frontier.append(MANY[size])


@given(st.integers(0, LARGEST))
def test_a_frontier_goes_on_from_its_bytes_and_from_its_hashes(size):
    frontier = Frontier()
    frontier.extend(MANY[:size])
    for again in (
        Frontier.from_bytes(size, frontier.to_bytes()),
        Frontier(size, frontier.hashes),
        frontier.copy(),
    ):
        again.extend(MANY[size:])
        assert again.root() == ROOTS[LARGEST]
    assert frontier.root() == ROOTS[size]


@pytest.mark.parametrize(
    ("size", "data"),
    [
        (-1, b""),
        (0, MANY[0]),
        (1, b""),
        (1, MANY[0][:-1]),
        (1, MANY[0] + b"x"),
        (3, MANY[0]),
        (4, MANY[0] * 2),
    ],
)
def test_a_frontier_is_not_read_from_bytes_of_another_size(size, data):
    with pytest.raises(ValueError, match=r"size|hashes"):
        Frontier.from_bytes(size, data)


def test_every_record_of_every_size_can_be_proven():
    for size in range(1, LARGEST + 1):
        for index in range(size):
            proof = inclusion_proof(MANY[:size], index)
            assert verify_inclusion(leaf=MANY[index], index=index, size=size, proof=proof, root=ROOTS[size])


def test_every_size_can_be_proven_to_have_grown_from_every_smaller_one():
    for new in range(LARGEST + 1):
        for old in range(new + 1):
            proof = consistency_proof(MANY[:new], old)
            assert verify_consistency(old_size=old, old_root=ROOTS[old], new_size=new, new_root=ROOTS[new], proof=proof)


@given(sizes, st.data())
def test_an_inclusion_proof_holds_for_nothing_but_its_record_place_and_root(size, data):
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(MANY[:size], index)
    truth = {"leaf": MANY[index], "index": index, "size": size, "proof": proof, "root": ROOTS[size]}
    assert verify_inclusion(**truth)
    for mutated in mutations(proof):
        assert not verify_inclusion(**truth | {"proof": mutated})
    for other in {*range(-1, size + 2)} - {index}:
        assert not verify_inclusion(**truth | {"index": other})
    for other in {*MANY[:8], EMPTY_ROOT, b""} - {MANY[index]}:
        assert not verify_inclusion(**truth | {"leaf": other})
    for other in {*ROOTS[:8], EMPTY_ROOT, b""} - {ROOTS[size]}:
        assert not verify_inclusion(**truth | {"root": other})
    assert not verify_inclusion(**truth | {"size": 0})


@given(sizes, st.data())
def test_a_consistency_proof_holds_for_nothing_but_its_two_trees(new, data):
    old = data.draw(st.integers(1, new))
    proof = consistency_proof(MANY[:new], old)
    truth = {
        "old_size": old,
        "old_root": ROOTS[old],
        "new_size": new,
        "new_root": ROOTS[new],
        "proof": proof,
    }
    assert verify_consistency(**truth)
    for mutated in mutations(proof):
        assert not verify_consistency(**truth | {"proof": mutated})
    for other in {*ROOTS[:8], EMPTY_ROOT, b""}:
        assert other == ROOTS[old] or not verify_consistency(**truth | {"old_root": other})
        assert other == ROOTS[new] or not verify_consistency(**truth | {"new_root": other})
    assert not verify_consistency(**truth | {"old_size": new + 1})
    assert not verify_consistency(**truth | {"old_size": -1})
    assert not verify_consistency(**truth | {"old_size": 0})


def test_an_empty_log_is_a_prefix_of_any_only_under_the_empty_root():
    truth = {"old_size": 0, "old_root": EMPTY_ROOT, "new_size": 5, "new_root": ROOTS[5], "proof": []}
    assert verify_consistency(**truth)
    assert not verify_consistency(**truth | {"old_root": ROOTS[1]})
    assert not verify_consistency(**truth | {"proof": [ROOTS[5]]})


def test_bytes_moved_from_one_hash_to_its_neighbor_do_not_pass():
    leaf, (sibling, *rest) = MANY[0], inclusion_proof(MANY, 0)
    truth = {"leaf": leaf, "index": 0, "size": LARGEST, "proof": [sibling, *rest], "root": ROOTS[LARGEST]}
    assert verify_inclusion(**truth)
    assert not verify_inclusion(**truth | {"leaf": leaf[:-1], "proof": [leaf[-1:] + sibling, *rest]})


def test_nothing_is_included_in_an_empty_log():
    assert not verify_inclusion(leaf=MANY[0], index=0, size=0, proof=[], root=EMPTY_ROOT)


def test_a_rewritten_record_breaks_consistency_with_the_tree_before():
    forged = [*MANY[:10], leaf_hash(b"forged"), *MANY[11:40]]
    proof = consistency_proof(forged, 20)
    assert not verify_consistency(old_size=20, old_root=ROOTS[20], new_size=40, new_root=root_hash(forged), proof=proof)


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_no_proof_is_made_for_a_record_that_is_not_there(index):
    with pytest.raises(ValueError, match="index"):
        inclusion_proof(LEAVES, index)


@pytest.mark.parametrize("old_size", [-1, 6])
def test_no_proof_is_made_from_a_size_that_never_was(old_size):
    with pytest.raises(ValueError, match="old_size"):
        consistency_proof(LEAVES, old_size)
