import pytest

from nevus.cli.main import main


@pytest.fixture
def nevus(capsys):
    """Run a command: `nevus("predict", ...)` gives (status, output, messages)."""

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(a) for a in arguments])
        except SystemExit as leaving:  # tyro's own faults and --help
            status = leaving.code
        out, err = capsys.readouterr()
        return status, out, err

    return run
