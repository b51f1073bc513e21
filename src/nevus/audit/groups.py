"""Groups: images that must not be split apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def joined_groups(n: int, pairs: pd.DataFrame, ids: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """The connected components of pairs and equal ids, as a code for each of n rows, in the order of their first
    rows.

    Args:
        n: rows.
        pairs: columns `a` and `b`, rows that belong together.
        ids: each a column of n ids: equal ones belong together, empty ones say nothing.

    """
    one, other = [pairs["a"].to_numpy(np.int64)], [pairs["b"].to_numpy(np.int64)]
    for column in ids:
        values = pd.Series(list(column), dtype=str)
        for value, rows in values.groupby(values).indices.items():
            if value:
                same = np.asarray(rows, np.int64)
                one.append(same[:-1])
                other.append(same[1:])
    a, b = np.concatenate(one), np.concatenate(other)
    _, codes = connected_components(coo_array((np.ones(len(a), bool), (a, b)), shape=(n, n)), directed=False)
    return pd.factorize(codes)[0].astype(np.int64)


def named(codes: NDArray[np.int64], names: Sequence[str], known: NDArray[np.bool_]) -> list[str]:
    """A name for each row's group: the first by the alphabet of those that its rows had before.

    Args:
        codes: of each row's group.
        names: that each row's group had.
        known: whether that is an id that someone gave, and not the image's own name; such names go first.

    """
    table = pd.DataFrame({"code": codes, "name": list(names), "rank": ~np.asarray(known)})
    first = table.sort_values(["rank", "name"]).drop_duplicates("code").set_index("code")["name"]
    return pd.Series(codes).map(first).tolist()
