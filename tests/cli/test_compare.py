def test_the_whole_comparison(nevus, phantoms, tmp_path):
    out = tmp_path / "comparison"
    words = [phantoms, "--methods", "bit", "kmeans", "--no-audit", "--side", 32, "--steps", 4, "--out", out]
    status, table, err = nevus("compare", *words)
    assert status == 0, err
    assert "BiT, head" in table
    assert "k-means" in table
    assert "about" in err
    assert "Research use only" in err
    status, again, err = nevus("compare", *words)
    assert status == 0, err
    assert again == table
    assert "0 of 2 to do" in err


def test_faults_are_told_in_one_sentence(nevus, phantoms, tmp_path):
    out = tmp_path / "comparison"
    cases = {
        ("--weights", "vgg16"): "is no NAME=PATH",
        ("--weights", "vgg16=none.safetensors"): "none.safetensors do not exist",
        ("--budget", "soon"): "a budget of 'soon' is none",
        ("--seeds", "0"): "at least one seed",
    }
    for words, sentence in cases.items():
        status, _, err = nevus("compare", phantoms, "--no-audit", "--out", out, *words)
        assert status == 2, err
        assert sentence in err
        assert "Traceback" not in err


def test_a_method_by_itself(nevus, phantoms, tmp_path):
    status, _, err = nevus("train", phantoms, "--method", "abcd-rule", "--no-audit", "--out", tmp_path / "run")
    assert status == 0, err
    assert "training accuracy" in err
    status, out, err = nevus("predict", phantoms / "test", "--bundle", tmp_path / "run" / "bundle")
    assert status == 0, err
    assert "p_malignant" in out
    for words, sentence in {
        ("--method", "svm", "--mode", "head"): "svm is no network, and --mode is for these",
        ("--method", "svm", "--lr", "0.1"): "a recipe's value is for these",
        ("--method", "vgg16", "--trunk", "bit-r26x0.5"): "leave it out for --method vgg16",
        ("--method", "vgg16"): "pretrained weights for vgg16 are not on this machine",
    }.items():
        status, _, err = nevus("train", phantoms, *words, "--no-audit", "--out", tmp_path / "other")
        assert status == 2, err
        assert sentence in err
