"""The register on SQLite and on PostgreSQL."""

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from nevus.errors import NevusError
from nevus.register.entry import Entry, Outcome
from nevus.register.outcomes_file import read_outcomes
from nevus.register.register import Register, default_url
from nevus.register.tables import metadata

ENTRY = Entry(
    "a" * 32,
    "b" * 32,
    "c" * 64,
    "sha256:" + "d" * 64,
    "127.0.0.1",
    label="benign",
    probabilities={"benign": 0.9, "malignant": 0.1},
    decision="malignant",
    set=("benign",),
    kind="dermoscopic",
    scores={"foreign": -1.5, "photograph": 0.25, "sharpness": 1.0},
    sensitivity=0.95,
)


def programs() -> Path | None:
    """The folder of PostgreSQL's programs."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    which = shutil.which("initdb")
    return found[-1].parent if found else Path(which).parent if which else None


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    """A PostgreSQL server of our own on a socket in a temporary folder."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL is not installed; scripts/debian-packages installs it")
    data = Path(tempfile.mkdtemp(prefix="nevus-postgresql-"))  # a short path, open to another user: for its socket
    user = getpass.getuser()
    prefix: list[str] = []
    logs = tmp_path_factory.mktemp("postgresql")
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        prefix, user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"], "nobody"
        shutil.chown(data, 65534, 65534)

    def run(*command):
        out = logs / "programs.log"  # no pipe: the server would keep it open
        with out.open("ab") as file:
            done = subprocess.run([*prefix, *map(str, command)], stdout=file, stderr=file, cwd=data, timeout=120)
        assert done.returncode == 0, out.read_text()

    run(folder / "initdb", "-D", data / "db", "-A", "trust", "-U", user, "--no-sync")
    options = f"-k {data} -h '' -F"
    run(folder / "pg_ctl", "-D", data / "db", "-w", "-l", data / "log", "-o", options, "start")
    yield f"postgresql://{user}@/postgres?host={data}"
    run(folder / "pg_ctl", "-D", data / "db", "-m", "immediate", "stop")
    shutil.rmtree(data)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'r.sqlite'}"
    address = request.getfixturevalue("postgresql")
    engine = sa.create_engine(address.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    return address


@pytest.fixture
def register(url):
    made = Register(url)
    yield made
    made.close()


def test_what_is_written_is_read(register):
    bad = replace(ENTRY, id="e" * 32, label=None, probabilities=None, decision="", set=(), error="x" * 900)
    register.record([ENTRY, bad])
    assert register.get(ENTRY.id) == ENTRY
    assert register.get(bad.id) == replace(bad, error="x" * 500)
    assert register.get("f" * 32) is None
    assert register.is_ready()


def test_one_transaction(register):
    register.record([ENTRY])
    with pytest.raises(NevusError, match="Cannot write to the register"):
        register.record([replace(ENTRY, id="1" * 32), ENTRY])  # the second has an id that is taken
    assert list(register.frame()["id"]) == [ENTRY.id]


def test_diagnoses(register):
    register.record([ENTRY])
    problems = register.add_outcomes(
        [
            Outcome(ENTRY.id, "benign"),
            Outcome("0" * 32, "benign"),
            Outcome(ENTRY.id, "cat"),
            Outcome(ENTRY.id, "malignant", "h"),
        ]
    )
    assert [bool(problem) for problem in problems] == [False, True, True, False]
    row = register.frame().iloc[0]
    assert (row["outcome"], row["confirmed_by"]) == ("malignant", "h")  # the last one counts


def test_an_empty_register(register):
    assert len(register.frame()) == 0
    assert "outcome" in register.frame().columns


def test_the_migrations_make_the_tables(url):
    Register(url).close()
    register = Register(url)  # a second start changes nothing
    with register._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    register.close()


def test_two_servers_start_at_once(url):
    code = "import sys; from nevus.register.register import Register; Register(sys.argv[1]).close()"
    started = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(3)]
    assert [one.communicate(timeout=60)[1] for one in started] == [b""] * 3


def test_many_writers(register):
    def write(number):
        for step in range(20):
            register.record([replace(ENTRY, id=f"{number:016x}{step:016x}")])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(register.frame()) == 80


def test_a_password_is_not_shown(tmp_path):
    with pytest.raises(NevusError) as error:
        Register("postgresql://user:secret-word@127.0.0.1:1/none")
    assert "secret-word" not in str(error.value)


def test_the_default_is_in_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_url() == f"sqlite:///{tmp_path}/nevus/register.sqlite"


def test_diagnoses_from_a_csv(tmp_path):
    path = tmp_path / "o.csv"
    path.write_text(f"id;label;confirmed_by\n{ENTRY.id};benign;histopathology\n")
    assert read_outcomes(path) == [(Outcome(ENTRY.id, "benign", "histopathology"), "row 2")]
    path.write_text("id\nx\n")
    with pytest.raises(NevusError, match="no column 'label'"):
        read_outcomes(path)


def test_probabilities_keep_their_digits(register):
    p = np.random.default_rng(0).dirichlet([1, 1]).tolist()
    register.record([replace(ENTRY, probabilities=dict(zip(("benign", "malignant"), p, strict=True)))])
    assert list(register.get(ENTRY.id).probabilities.values()) == p
