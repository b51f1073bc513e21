def test_recipes_side_by_side_with_their_time(nevus, phantoms, tmp_path):
    arguments = ["--side", 32, "--batch", 8, "--out", tmp_path / "lr.png"]
    status, out, err = nevus("recipe", phantoms, *arguments)
    assert status == 0, err
    for words in ("default", "hyperrule", "paper", "expected time here", "weight_decay", "staircase", "cosine"):
        assert words in out
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


def test_head_mode(nevus, phantoms, tmp_path):
    status, out, _ = nevus("recipe", phantoms, "--mode", "head", "--side", 32, "--out", tmp_path / "lr.svg")
    assert status == 0
    assert "mode head" in out
