"""The register of predictions and later diagnoses, in SQLite or PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from filelock import FileLock
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from nevus.errors import NevusError
from nevus.register.entry import Entry, Outcome, utc_now
from nevus.register.tables import outcomes, predictions

if TYPE_CHECKING:
    import pandas as pd

ADVISORY_LOCK = 7_405_113
"""Two servers that start at once on PostgreSQL migrate one after the other."""
_MIGRATING = threading.Lock()
"""alembic keeps its context in global variables."""
POSTGRESQL_TIMEOUTS = {"connect_timeout": 10, "tcp_user_timeout": 10_000, "options": "-c statement_timeout=10000"}
"""A server that does not answer is an error, not a wait."""
MAX_ERROR = 500
"""Longest error that is kept, in characters."""


def data_folder() -> Path:
    """Return the folder of nevus for data of the user that cannot be made again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "nevus"


def default_url() -> str:
    """Return the URL of the default register, an SQLite file in the user's data folder."""
    return f"sqlite:///{data_folder() / 'register.sqlite'}"


class Register:
    """Predictions and later diagnoses in a database.

    Attributes:
        url: of the database, without a password.

    """

    def __init__(self, url: str) -> None:
        """Open a register; a new one is made, and an older one is migrated.

        Args:
            url: as SQLAlchemy takes it, `sqlite:///PATH` or `postgresql+psycopg://USER@HOST/NAME`.

        Raises:
            NevusError: it cannot be opened.

        """
        try:
            parsed = sa.make_url(url)
            if parsed.drivername == "postgresql":
                parsed = parsed.set(drivername="postgresql+psycopg")
            self.url = parsed.render_as_string(hide_password=True)
            if parsed.get_backend_name() == "sqlite" and parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            waits = POSTGRESQL_TIMEOUTS if parsed.get_backend_name() == "postgresql" else {}
            self._engine = sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True, connect_args=waits)
            if parsed.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _durable)
            try:
                with _MIGRATING, _file_lock(parsed):
                    self._migrate()
            except BaseException:
                self._engine.dispose()
                raise
        except (ArgumentError, NoSuchModuleError):
            raise NevusError(
                "Cannot open the register: --database is no URL of SQLite or PostgreSQL. Write sqlite:///PATH or "
                "postgresql://USER@HOST/NAME."
            ) from None
        except (SQLAlchemyError, OSError) as error:
            raise NevusError(f"Cannot open the register {self.url}: {_short(error)}. Correct --database.") from None
        except ImportError as error:
            raise NevusError(
                f'Cannot open the register: {error.name} is missing. Install it with pip install "nevus[serve]".'
            ) from None

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(files("nevus.register") / "migrations"))
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def record(self, entries: Sequence[Entry]) -> None:
        """Write entries in one transaction. When this returns they are on the disk.

        Raises:
            NevusError: they cannot be written; none of them was.

        """
        rows = [{**asdict(one), "set": list(one.set), "error": one.error and one.error[:MAX_ERROR]} for one in entries]
        with self._connected("write to") as connection:
            connection.execute(sa.insert(predictions), rows)

    def get(self, identifier: str) -> Entry | None:
        """Return one prediction, or None.

        Raises:
            NevusError: the register cannot be read.

        """
        with self._connected("read") as connection:
            row = connection.execute(sa.select(predictions).where(predictions.c.id == identifier)).mappings().first()
        return None if row is None else Entry(**{**row, "set": tuple(row["set"])})

    def add_outcomes(self, found: Sequence[Outcome]) -> list[str]:
        """Enter later diagnoses, as far as they fit.

        Returns:
            For each an empty string, or why it was not entered: no such prediction, or no such class.

        Raises:
            NevusError: the register cannot be written; no diagnosis was.

        """
        problems, rows = [], []
        with self._connected("write to") as connection:
            for one in found:
                query = sa.select(predictions.c.probabilities).where(predictions.c.id == one.id)
                row = connection.execute(query).first()
                if row is None:
                    problems.append(f"There is no prediction '{one.id}'.")
                elif row[0] is not None and one.label not in row[0]:
                    problems.append(f"'{one.label}' is no class of the model: {', '.join(row[0])}.")
                else:
                    problems.append("")
                    rows.append(
                        {
                            "prediction_id": one.id,
                            "time": utc_now(),
                            "label": one.label,
                            "confirmed_by": one.confirmed_by,
                        }
                    )
            if rows:
                connection.execute(sa.insert(outcomes), rows)
        return problems

    def frame(self) -> pd.DataFrame:
        """Return all predictions by ascending time, with `outcome` (the last diagnosis) and `confirmed_by` or None.

        Raises:
            NevusError: the register cannot be read.

        """
        import pandas as pd

        with self._connected("read") as connection:
            rows = (
                connection.execute(sa.select(predictions).order_by(predictions.c.time, predictions.c.id))
                .mappings()
                .all()
            )
            later = connection.execute(
                sa.select(outcomes.c.prediction_id, outcomes.c.label, outcomes.c.confirmed_by).order_by(
                    outcomes.c.number
                )
            ).all()
        table = pd.DataFrame([dict(row) for row in rows], columns=[column.name for column in predictions.columns])
        last = {row[0]: (row[1], row[2]) for row in later}
        found = [last.get(one, (None, None)) for one in table["id"]]
        return table.assign(
            outcome=pd.Series([one[0] for one in found], dtype=object, index=table.index),
            confirmed_by=pd.Series([one[1] for one in found], dtype=object, index=table.index),
        )

    def is_ready(self) -> bool:
        """Whether the database answers."""
        try:
            with self._engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()

    @contextlib.contextmanager
    def _connected(self, verb: Literal["read", "write to"]) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() if verb == "read" else self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise NevusError(f"Cannot {verb} the register {self.url}: {_short(error)}. Check the database.") from None


def _file_lock(url: sa.URL) -> contextlib.AbstractContextManager[object]:
    """Lock an SQLite file while it is migrated: two servers may start at once."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        return contextlib.nullcontext()
    return FileLock(f"{url.database}.lock", timeout=60)


def _durable(connection: Any, _record: object) -> None:
    """Write ahead with one fsync for each transaction: a committed one survives a power cut."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=10000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _short(error: BaseException) -> str:
    reason = error.orig if isinstance(error, DBAPIError) else error
    text = str(reason).splitlines()
    return text[0].strip().rstrip(".")[:200] if text else type(reason).__name__
