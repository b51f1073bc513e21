def test_it_prints_the_bayes_accuracy(nevus, tmp_path):
    status, out, _ = nevus("phantom", "--n", 5, "--image-size", "32", "--out", tmp_path / "set", "--noise", 0.3)
    assert status == 0
    assert "5 images of" in out
    assert "Bayes accuracy of the law: 0.9551" in out
    status, _, err = nevus("phantom", "--n", 5, "--out", tmp_path / "set")
    assert status == 2
    assert "holds a data set already" in err


def test_faults_are_told(nevus, tmp_path):
    status, _, err = nevus("phantom", "--n", 0, "--out", tmp_path / "set")
    assert status == 2
    assert "Correct --n" in err
    assert nevus("phantom", "--noise", "nan", "--out", tmp_path / "set")[0] == 2
    assert nevus("phantom", "--seed", -1, "--out", tmp_path / "set")[0] == 2
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    status, _, err = nevus("phantom", "--n", 3, "--out", tmp_path / "mine")
    assert status == 2
    assert "holds other files (notes.txt)" in err


def test_models_are_listed(nevus):
    status, out, _ = nevus("models")
    assert status == 0
    assert "bit-r26x0.5" in out
    assert "23,500,352" in out
