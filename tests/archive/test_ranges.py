"""The hashes of ranges join to the root of the tree, however the ranges are cut."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tallybook.application.archive.layout import parse_segment_name, segment_end, segment_name
from tallybook.application.archive.ranges import TreeRange
from tallybook.application.checkpoints.merkle import Tree

LEAVES = [hashlib.sha256(str(number).encode()).digest() for number in range(2_000)]


def root(size: int) -> bytes:
    """Return the root of the first leaves, joined leaf by leaf."""
    tree = Tree()
    tree.extend(LEAVES[:size])
    return tree.root()


@given(st.integers(0, len(LEAVES)), st.lists(st.integers(0, len(LEAVES)), max_size=12))
def test_ranges_join_to_the_root_wherever_they_are_cut(size: int, cuts: list[int]) -> None:
    """Each range is built on its own, also in several steps, and has at most two subtrees of a level."""
    bounds = [0, *sorted(min(cut, size) for cut in cuts), size]
    joined = TreeRange()
    for start, end in pairwise(bounds):
        part = TreeRange(start)
        part.extend(LEAVES[start : (start + end) // 2])
        part.extend(LEAVES[(start + end) // 2 : end])
        assert TreeRange.from_subtrees(start, end, part.subtrees).subtrees == part.subtrees
        levels = [level for level, _ in part.subtrees]
        assert all(levels.count(level) <= 2 for level in levels)
        joined.join(part)
    assert joined.root() == root(size)
    assert [level for level, _ in joined.subtrees] == sorted({level for level, _ in joined.subtrees}, reverse=True)


def test_a_whole_block_is_one_node() -> None:
    """So the line of a whole segment is short."""
    block = TreeRange(1024)
    block.extend(LEAVES[:1024])
    assert [level for level, _ in block.subtrees] == [10]
    assert list(block.positions()) == [(1025, 2048)]


@pytest.mark.parametrize(
    ("start", "end", "levels"),
    [(0, 3, [1]), (0, 3, [0, 1]), (0, 2, [0, 0]), (1, 3, [1]), (0, 1, [-1]), (0, 1, [63]), (0, 4, [1, 1, 0])],
)
def test_other_subtrees_are_rejected(start: int, end: int, levels: list[int]) -> None:
    """A range has one form: its largest subtrees, in order."""
    with pytest.raises(ValueError, match=r"leaf|leaves"):
        TreeRange.from_subtrees(start, end, [(level, LEAVES[0]) for level in levels])


@pytest.mark.parametrize(
    ("first", "head", "last"), [(1, 5, 5), (1, 9, 8), (3, 9, 8), (8, 9, 8), (9, 9, 9), (9, 40, 16), (17, 24, 24)]
)
def test_segments_end_at_blocks_or_at_the_head(first: int, head: int, last: int) -> None:
    """Blocks of 8 positions."""
    assert segment_end(first, head, 8) == last


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        (segment_name(1, 20), (1, 20)),
        (segment_name(1, 10**13), (1, 10**13)),
        ("events/000000000020-000000000001.parquet", None),
        ("events/000000000000-000000000001.parquet", None),
        ("events/0000000000001-000000000002.parquet", None),
        ("events/000000000001-000000000002.parquet.unfinished", None),
        ("events/notes.txt", None),
        ("manifest.jsonl", None),
    ],
)
def test_names_of_segments(name: str, positions: tuple[int, int] | None) -> None:
    """Other files in the folder are left alone."""
    assert parse_segment_name(name) == positions
