import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from nevus.auditing.lesion_groups import joined_groups, named

N = 8
links = st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=8)
ids = st.lists(st.sampled_from(["", "", "a", "b"]), min_size=N, max_size=N)


def brute(pairs, columns):
    """Every row takes the least number that any row it is joined with has, until nothing changes."""
    code = list(range(N))
    joined = list(pairs)
    for column in columns:
        joined += [(a, b) for a in range(N) for b in range(a) if column[a] and column[a] == column[b]]
    for _ in range(N):
        for a, b in joined:
            code[a] = code[b] = min(code[a], code[b])
    return code


@given(links, ids, ids)
def test_groups_are_the_connected_components(pairs, one, other):
    table = pd.DataFrame(pairs, columns=["a", "b"], dtype=np.int64)
    found = joined_groups(N, table, [one, other])
    wanted = brute(pairs, [one, other])
    assert [[x == y for x in found] for y in found] == [[x == y for x in wanted] for y in wanted]
    assert found[0] == 0


def test_a_group_takes_the_name_that_someone_gave():
    names = ["a.png", "lesion 7", "b.png", "c.png"]
    known = np.array([False, True, False, False])
    assert named(np.array([0, 0, 0, 1]), names, known) == ["lesion 7"] * 3 + ["c.png"]
    assert named(np.array([0, 1, 0, 1]), names, known) == ["a.png", "lesion 7", "a.png", "lesion 7"]
