import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nevus.data import cache as cache_module
from nevus.data import decoded as pixels_module
from nevus.data import preprocess as preprocess_module
from nevus.data.cache import Cache, CacheConfig, clear_cache
from nevus.data.decoded import decode_dataset
from nevus.data.images import decode
from nevus.data.preprocess import Preprocess
from nevus.data.readers.dispatch import read
from nevus.errors import NevusError


@pytest.fixture
def decoded(monkeypatch):
    """Count what is decoded."""
    paths = []

    def counting(source, *rest):
        paths.append(source)
        return decode(source, *rest)

    monkeypatch.setattr(pixels_module, "decode", counting)
    monkeypatch.setattr(preprocess_module, "decode", counting)
    return paths


@pytest.fixture
def opened(tmp_path):
    """Open a cache as a new process would."""
    return lambda gigabytes=1.0: Cache(CacheConfig(tmp_path / "cache", gigabytes))


def entries(tmp_path, kind="pixels"):
    """Return keys and sizes of what is stored."""
    with sqlite3.connect(tmp_path / "cache" / "cache.sqlite") as database:
        rows = database.execute("SELECT key, size FROM entries WHERE kind = ?", (kind,)).fetchall()
    database.close()
    return dict(rows)


def test_each_image_is_decoded_once(class_folders, opened, decoded):
    data = read(class_folders({"a": 4, "b": 5}))
    expected = np.stack([Preprocess(16).pixels(path) for path in data.paths])
    decoded.clear()
    first = decode_dataset(data, 16, opened())
    assert np.array_equal(first.pixels[:], expected)
    assert len(decoded) == 9
    again = decode_dataset(data, 16, opened())
    for _ in range(3):  # epochs
        assert np.array_equal(again.pixels[np.array([3, 0, 8, 3])], expected[[3, 0, 8, 3]])
        assert np.array_equal(again.pixels[2:5], expected[2:5])
        assert np.array_equal(again.pixels.subset(slice(2, 8))[np.array([1])], expected[[3]])
    assert len(decoded) == 9
    decode_dataset(data, 20, opened())
    assert len(decoded) == 18


def test_each_image_is_decoded_once_for_several_sizes(class_folders, opened, decoded):
    data = read(class_folders({"a": 4, "b": 5}))
    expected = {size: np.stack([Preprocess(size).pixels(path) for path in data.paths]) for size in (16, 20)}
    decoded.clear()
    found = decode_dataset(data, 16, opened(), also=[20])
    assert np.array_equal(found.pixels[:], expected[16])
    assert np.array_equal(found.pixels.at_size(20)[:], expected[20])
    assert np.array_equal(decode_dataset(data, 20, opened()).pixels[:], expected[20])
    assert len(decoded) == 9


def test_the_key_is_the_content_not_the_name(class_folders, opened, decoded, tmp_path):
    folder = class_folders({"a": 3, "b": 3})
    decode_dataset(read(folder), 16, opened())
    (folder / "a" / "000.png").rename(folder / "a" / "moved.png")
    (folder / "b" / "copy.png").write_bytes((folder / "b" / "000.png").read_bytes())
    decode_dataset(read(folder), 16, opened())
    assert len(decoded) == 6
    time.sleep(0.01)
    Image.new("RGB", (32, 32), "red").save(folder / "b" / "001.png")
    found = decode_dataset(read(folder), 16, opened())
    assert len(decoded) == 7
    row = found.manifest.paths.index(folder / "b" / "001.png")
    assert (found.pixels[:][row] == [255, 0, 0]).all()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE contents SET value = substr(value, 11)",
        "UPDATE contents SET value = zeroblob(length(value))",
        "DELETE FROM contents",
        "DELETE FROM entries",
    ],
)
def test_damaged_entries_are_made_again(class_folders, opened, tmp_path, statement):
    data = read(class_folders({"a": 3, "b": 3}))
    first = decode_dataset(data, 16, opened())
    expected = first.pixels[:]
    with sqlite3.connect(tmp_path / "cache" / "cache.sqlite") as database:
        database.execute(statement)
    database.close()
    assert np.array_equal(first.pixels[:], expected)  # in the middle of a run
    again = decode_dataset(data, 16, opened())
    assert np.array_equal(again.pixels[:], expected)
    assert len(entries(tmp_path)) == 6


@pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + bytes(50)])
def test_a_damaged_file_is_made_again(tmp_path, content):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    config = CacheConfig(tmp_path / "cache")
    config.path.parent.mkdir()
    config.path.write_bytes(content)
    for _ in range(2):
        cache = Cache(config)
        # echo -n one | sha256sum
        assert cache.file_digest(file) == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
        cache.close()
    assert len(entries(tmp_path, "digests")) == 1


@given(cut=st.integers(0, 200_000))
@settings(max_examples=20, deadline=None)
def test_a_file_that_was_cut_off_anywhere_gives_right_values_or_none(tmp_path_factory, cut):
    config = CacheConfig(tmp_path_factory.mktemp("cut"))
    values = {str(number): bytes([number]) * 5000 for number in range(20)}
    cache = Cache(config)
    cache.put_many("pairs", values)
    cache.close()
    config.path.write_bytes(config.path.read_bytes()[:cut])
    cache = Cache(config)
    for key, value in values.items():
        assert cache.get("pairs", key) in (None, value)
    cache.close()


def test_a_file_that_changed_during_a_run_is_an_error(class_folders, opened, tmp_path):
    folder = class_folders({"a": 2, "b": 2})
    found = decode_dataset(read(folder), 16, opened(0))
    Image.new("RGB", (33, 33)).save(folder / "a" / "000.png")
    with pytest.raises(NevusError, match=r"000.png': it was changed or deleted"):
        found.pixels[:]
    (folder / "a" / "000.png").unlink()
    with pytest.raises(NevusError, match=r"000.png': it was changed or deleted"):
        found.pixels[:]


def test_its_size_is_limited_and_the_least_recently_used_go_first(class_folders, picture, opened, tmp_path, capsys):
    data = read(class_folders({"a": 10, "b": 10}))
    limit = (8.5 * 16 * 16 * 3 + 20 * 32) / 1e9
    cache = opened(limit)
    found = decode_dataset(data, 16, cache)
    assert np.array_equal(found.pixels[:], np.stack([Preprocess(16).pixels(p) for p in data.paths]))
    assert len(entries(tmp_path)) == 8
    assert capsys.readouterr().err.count("is full") == 1
    cache.close()
    old = list(entries(tmp_path))[:3]
    cache_module_began = time.time() - 1000
    with sqlite3.connect(tmp_path / "cache" / "cache.sqlite") as database:
        marks = ",".join("?" * len(old))
        database.execute(f"UPDATE entries SET used = ? WHERE key IN ({marks})", (cache_module_began - 9, *old))
    database.close()
    other = opened(limit)
    other._began = cache_module_began  # so that the rest counts as used by this process
    for number in range(3):
        other.put("pixels", f"new {number}", bytes(16 * 16 * 3))
    left = entries(tmp_path)
    assert not set(old) & set(left)
    assert {"new 0", "new 1", "new 2"} <= set(left)
    assert sum(left.values()) <= limit * 1e9


def test_what_other_processes_write_counts(tmp_path):
    size = 16 * 16 * 3
    config = CacheConfig(tmp_path / "cache", 40 * size / 1e9)
    two = [Cache(config), Cache(config)]
    for number in range(60):
        two[number % 2].put("pixels", str(number), bytes(size))
    assert 30 <= len(entries(tmp_path)) <= 44


def test_what_was_used_is_not_deleted_by_its_process(tmp_path):
    config = CacheConfig(tmp_path / "cache", 1e-5)
    Cache(config).put_many("pairs", {name: bytes(4000) for name in "ab"})
    time.sleep(0.01)
    cache = Cache(config)
    assert cache.has("pairs", "a")
    cache.put("pairs", "c", bytes(4000))
    assert set(entries(tmp_path, "pairs")) == {"a", "c"}


def test_a_full_disk_ends_the_cache_and_not_the_work(tmp_path, capsys, monkeypatch):
    cache = Cache(CacheConfig(tmp_path / "cache"))
    cache.put("pairs", "a", b"1")
    cache._execute("PRAGMA max_page_count = 8")  # as if the disk had no room: "database or disk is full"
    for number in range(20):
        cache.put("pairs", str(number), bytes(100_000))
    assert cache.get("pairs", "a") == b"1"
    error = capsys.readouterr().err
    assert error.count("disk is full") == 1
    assert "cache.sqlite" in error


def test_without_room_nothing_is_kept(class_folders, opened, decoded, tmp_path):
    data = read(class_folders({"a": 2, "b": 2}))
    found = decode_dataset(data, 16, opened(0))
    assert found.pixels[:].shape == (4, 16, 16, 3)
    assert not (tmp_path / "cache").exists()
    assert len(decoded) == 8


def test_where_it_cannot_be_written_work_goes_on(class_folders, tmp_path, capsys):
    data = read(class_folders({"a": 2, "b": 2}))
    (tmp_path / "file").write_text("")
    found = decode_dataset(data, 16, Cache(CacheConfig(tmp_path / "file")))
    assert found.pixels[:].shape == (4, 16, 16, 3)
    assert capsys.readouterr().err.count("Cannot write the cache") == 1


def test_two_may_build_it_at_once(class_folders, opened, tmp_path):
    data = read(class_folders({"a": 30, "b": 30}))
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(decode_dataset, data, 16, opened(), begin=begin) for begin in (0, 0.25, 0.5, 0.75)]
        results = [job.result().pixels[:] for job in jobs]
    assert all(np.array_equal(result, results[0]) for result in results)
    assert len(entries(tmp_path)) == 60


def test_the_place_where_decoding_begins_changes_nothing(class_folders, opened):
    folder = class_folders({"a": 4, "b": 4})
    (folder / "a" / "002.png").write_bytes(b"broken")
    (folder / "b" / "003.png").write_bytes(b"broken, too")
    data = read(folder)
    found = [decode_dataset(data, 16, opened(), begin=begin) for begin in (0, 0.5, 0.9)]
    assert all(f.faults == found[0].faults for f in found)
    assert all(f.manifest.digest == found[0].manifest.digest for f in found)
    assert all(np.array_equal(f.pixels[:], found[0].pixels[:]) for f in found)


def test_file_digests_are_cached_until_the_file_changes(tmp_path):
    file, config = tmp_path / "a", CacheConfig(tmp_path / "cache")
    file.write_bytes(b"one")
    first = Cache(config).file_digest(file)
    state = file.stat()
    file.write_bytes(b"two")  # as long, and set back: taken for the same
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    cache = Cache(config)
    assert cache.file_digest(file) == first
    os.utime(file, (5, 5))
    assert cache.file_digest(file) != first


def test_many_threads_and_connections(tmp_path):
    files = []
    for i in range(50):
        files.append(tmp_path / str(i))
        files[-1].write_bytes(bytes([i]))
    found, faults = [], []

    def work():
        try:
            cache = Cache(CacheConfig(tmp_path / "cache"))
            found.append([cache.file_digest(file) for file in files])
            cache.close()
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert len({tuple(f) for f in found}) == 1


def test_it_can_be_measured_and_cleared(tmp_path):
    config = CacheConfig(tmp_path / "cache")
    cache = Cache(config)
    cache.put_many("pairs", {"a": b"12", "b": b"345"})
    cache.put("graphs", "a", b"6")
    assert cache.sizes() == {"pairs": (2, 5), "graphs": (1, 1)}
    cache.close()
    clear_cache(config)
    assert not list((tmp_path / "cache").iterdir())


def test_large_values_are_not_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_module, "MAX_ENTRY", 10)
    cache = Cache(CacheConfig(tmp_path / "cache"))
    cache.put("graphs", "a", bytes(11))
    assert cache.get("graphs", "a") is None


def test_a_negative_size_is_an_error():
    with pytest.raises(NevusError, match="Cannot use a cache of -1 GB"):
        CacheConfig(gigabytes=-1)
