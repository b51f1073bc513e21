"""The service against its own OpenAPI description, by schemathesis."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(server, examples):
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{server.url}/openapi.json",
        "--checks=all",
        f"--max-examples={examples}",
        "--seed=1",
        "--no-color",
        "--phases=examples,coverage,fuzzing",
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=server.folder)


def test_the_description_holds(server):
    done = run(server, 15)
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.long
def test_the_description_holds_for_many_examples(server):
    done = run(server, 500)
    assert done.returncode == 0, done.stdout[-6000:]


def test_the_description_has_examples_and_no_page(server):
    found = server.get("/openapi.json").json()
    assert set(found["paths"]) >= {"/v1/predictions", "/v1/outcomes", "/v1/model", "/healthz", "/readyz", "/metrics"}
    assert "/" not in found["paths"]
    assert found["components"]["schemas"]["PredictionOut"]["examples"]
    for path in found["paths"].values():
        for operation in path.values():
            assert operation["summary"]
