"""The Merkle tree of RFC 6962: test vectors of certificate-transparency, and a naive model from the RFC's text."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.checkpoints.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    is_consistent,
    leaf_hash,
    node_hash,
    root_from_inclusion,
)

LEAVES = [bytes.fromhex(leaf) for leaf in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSIONS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
CONSISTENCIES = {
    (1, 1): [],
    (1, 8): INCLUSIONS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def reference_root(hashes: list[bytes]) -> bytes:
    """Return the root as defined by RFC 6962, 2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else EMPTY_ROOT
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return node_hash(reference_root(hashes[:k]), reference_root(hashes[k:]))


def root_of(hashes: list[bytes]) -> Callable[[int, int], bytes]:
    """Return the function that proofs read the roots of subtrees with."""
    return lambda start, end: reference_root(hashes[start:end])


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_tests(size: int) -> None:
    """Trees of 0 to 8 leaves, added one by one, have the reference roots."""
    tree = Tree()
    for leaf in HASHES[:size]:
        tree.extend([leaf])
    assert (tree.size, tree.root().hex()) == (size, ROOTS[size])


@pytest.mark.parametrize(("index", "size"), INCLUSIONS)
def test_inclusion_proofs_are_those_of_the_reference_tests(index: int, size: int) -> None:
    """Created proofs equal the reference proofs, and they are valid."""
    proof = inclusion_proof(index, size, root_of(HASHES))
    assert [node.hex() for node in proof] == INCLUSIONS[index, size]
    root = root_from_inclusion(HASHES[index], index, size, proof)
    assert root is not None
    assert root.hex() == ROOTS[size]


@pytest.mark.parametrize(("old", "new"), CONSISTENCIES)
def test_consistency_proofs_are_those_of_the_reference_tests(old: int, new: int) -> None:
    """Created proofs equal the reference proofs, and they are valid."""
    proof = consistency_proof(old, new, root_of(HASHES))
    assert [node.hex() for node in proof] == CONSISTENCIES[old, new]
    assert is_consistent(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


SIZES = st.integers(1, 70)


def leaf_hashes(size: int) -> list[bytes]:
    """Return the hashes of `size` different leaves."""
    return [leaf_hash(b"%d" % number) for number in range(size)]


@given(SIZES, st.data())
def test_every_inclusion_proof_verifies_and_no_altered_proof_does(size: int, data: st.DataObject) -> None:
    """A change of the leaf, its index, or a hash, or of the number or order of hashes gives another root or None."""
    hashes = leaf_hashes(size)
    root = reference_root(hashes)
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, root_of(hashes))
    assert root_from_inclusion(hashes[index], index, size, proof) == root
    other = data.draw(st.integers(-2, size + 2).filter(lambda candidate: candidate != index))
    assert root_from_inclusion(hashes[index], other, size, proof) != root
    assert root_from_inclusion(leaf_hash(b"another"), index, size, proof) != root
    for altered in altered_proofs(proof, data):
        assert root_from_inclusion(hashes[index], index, size, altered) != root


@given(SIZES, st.data())
def test_every_consistency_proof_verifies_and_no_altered_proof_does(new: int, data: st.DataObject) -> None:
    """The proof is invalid with another root at either size, or with hashes changed, omitted or added."""
    hashes = leaf_hashes(new)
    old = data.draw(st.integers(0, new))
    roots = reference_root(hashes[:old]), reference_root(hashes)
    proof = consistency_proof(old, new, root_of(hashes))
    assert is_consistent(old, roots[0], new, roots[1], proof)
    assert not is_consistent(old, leaf_hash(b"another"), new, roots[1], proof)
    assert old == 0 or not is_consistent(old, roots[0], new, leaf_hash(b"another"), proof)
    assert not is_consistent(new + 1, roots[0], new, roots[1], proof)
    for altered in altered_proofs(proof, data):
        assert not is_consistent(old, roots[0], new, roots[1], altered)


def altered_proofs(proof: list[bytes], data: st.DataObject) -> list[list[bytes]]:
    """Return the proof with a hash added and, if it is long enough, changed, omitted or swapped."""
    altered = [[*proof, leaf_hash(b"another")], [leaf_hash(b"another"), *proof]]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        changed_hash = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        altered += [[*proof[:at], changed_hash, *proof[at + 1 :]], [*proof[:at], *proof[at + 1 :]]]
    if len(proof) > 1:
        altered.append([proof[1], proof[0], *proof[2:]])
    return altered


@given(st.integers(0, 300), st.integers(0, 300))
def test_a_tree_can_be_extended_in_any_steps(first: int, second: int) -> None:
    """The root does not depend on the steps, and a copy is independent of its original."""
    hashes = leaf_hashes(first + second)
    tree = Tree()
    tree.extend(hashes[:first])
    other = tree.copy()
    other.extend(hashes[first:])
    assert (tree.size, tree.root()) == (first, reference_root(hashes[:first]))
    assert (other.size, other.root()) == (first + second, reference_root(hashes))


def test_a_tree_stores_logarithmically_many_hashes() -> None:
    """A tree of 100,000 leaves stores one hash for each set bit of its size."""
    tree = Tree()
    tree.extend(bytes(32) for _ in range(100_000))
    assert len(tree.subtrees) == (100_000).bit_count()
