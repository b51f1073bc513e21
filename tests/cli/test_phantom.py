def test_it_prints_the_bayes_accuracy(nevus, tmp_path):
    status, out, _ = nevus("phantom", "--n", 5, "--side", 32, "--out", tmp_path / "set", "--noise", 0.3)
    assert status == 0
    assert "5 images of" in out
    assert "Bayes accuracy of the law: 0.9551" in out
    status, _, err = nevus("phantom", "--n", 5, "--out", tmp_path / "set")
    assert status == 2
    assert "holds a data set already" in err


def test_faults_are_told(nevus, tmp_path):
    status, _, err = nevus("phantom", "--n", 0, "--out", tmp_path / "set")
    assert status == 2
    assert "correct --n" in err


def test_models_are_listed(nevus):
    status, out, _ = nevus("models")
    assert status == 0
    assert "bit-r26x0.5" in out
    assert "23,500,352" in out
