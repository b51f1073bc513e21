def test_the_whole_comparison(nevus, phantoms, tmp_path):
    out = tmp_path / "comparison"
    words = [
        phantoms,
        "--methods",
        "bit",
        "kmeans",
        "--no-check-duplicates",
        "--set",
        "image_size=32",
        "--set",
        "steps=4",
        "--out",
        out,
    ]
    status, table, err = nevus("compare", *words)
    assert status == 0, err
    assert "BiT" in table
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
        ("--weights", "vgg16"): "is no KEY=VALUE",
        ("--weights", "vgg16=none.safetensors"): "none.safetensors': it does not exist",
        ("--budget", "soon"): "Cannot use --budget soon",
        ("--seeds", "0"): "at least one seed",
    }
    for words, sentence in cases.items():
        status, _, err = nevus("compare", phantoms, "--no-check-duplicates", "--out", out, *words)
        assert status == 2, err
        assert sentence in err
        assert "Traceback" not in err


def test_a_method_by_itself(nevus, phantoms, tmp_path):
    status, _, err = nevus(
        "train", phantoms, "--method", "abcd-rule", "--no-check-duplicates", "--out", tmp_path / "run"
    )
    assert status == 0, err
    assert "training accuracy" in err
    status, out, err = nevus("predict", phantoms / "test", "--bundle", tmp_path / "run" / "bundle")
    assert status == 0, err
    assert "p_malignant" in out
    for words, sentence in {
        ("--method", "svm", "--tuning", "linear-probe"): "Cannot use --tuning with --method svm",
        ("--method", "svm", "--set", "lr=0.1"): "Cannot use --set with --method svm",
        ("--method", "vgg16", "--backbone", "bit-r26x0.5"): "Cannot use --backbone with --method vgg16",
        ("--method", "vgg16"): "its pretrained weights are not on this machine",
    }.items():
        status, _, err = nevus("train", phantoms, *words, "--no-check-duplicates", "--out", tmp_path / "other")
        assert status == 2, err
        assert sentence in err
